package config

import (
	"net/netip"
	"regexp"
	"time"
)

// A Check is one way of telling whether this node, or a backend, can serve a service. Of what is below
// Results, only what belongs to Kind is set.
type Check struct {
	Name         string // unique in the service
	Kind         CheckKind
	Via          CheckVia   // of backends only
	Address      netip.Addr // invalid for files, and for backends: each has its own
	Port         uint16     // 0 for kinds without one, and where each backend has its own
	Interval     time.Duration
	Timeout      time.Duration // at most Interval and FastInterval
	FastInterval time.Duration // while a check is about to change; 0: Interval
	Rise, Fall   int           // results in a row that change it
	Start        CheckStart
	Results      int // that are kept

	TCP       TCPCheck
	HTTP      HTTPCheck // and HTTPS
	TLS       TLSCheck  // of HTTPS and TLSExpiry
	Days      int       // TLSExpiry: that the certificate must still be valid
	DNS       DNSCheck
	Command   []string // Exec: an absolute path, and arguments
	File      FileCheck
	AgentSend string // is sent before the agent's line is read; may be empty
}

// A CheckKind is a way of checking.
type CheckKind string

// The kinds.
const (
	CheckTCP       CheckKind = "tcp"
	CheckHTTP      CheckKind = "http"
	CheckHTTPS     CheckKind = "https"
	CheckTLSExpiry CheckKind = "tls-expiry"
	CheckDNS       CheckKind = "dns"
	CheckICMP      CheckKind = "icmp"
	CheckExec      CheckKind = "exec"
	CheckAgent     CheckKind = "agent"
	CheckFile      CheckKind = "file"
)

// String returns the word of the file.
func (k CheckKind) String() string { return string(k) }

// CheckVia is the way of a check to a backend.
type CheckVia string

// The ways.
const (
	ViaDirect CheckVia = "direct" // to the backend's own address
	ViaVIP    CheckVia = "vip"    // to the VIP, as the datapath sends packets there
)

// String returns the word of the file.
func (v CheckVia) String() string { return string(v) }

// CheckStart is what a check is before its first result.
type CheckStart string

// The states to start in.
const (
	StartUp   CheckStart = "up"
	StartDown CheckStart = "down"
)

// String returns the word of the file.
func (s CheckStart) String() string { return string(s) }

// A TCPCheck is what to say and to hear on a connection. Either may be empty.
type TCPCheck struct{ Send, Expect string }

// An HTTPCheck is a request and what must come back.
type HTTPCheck struct {
	Method  string
	Path    string
	Host    string // empty: the address
	Headers map[string]string
	Status  []StatusRange
	Body    *regexp.Regexp // nil: anything
}

// A StatusRange is one status, or all from the first to the last.
type StatusRange struct{ First, Last int }

// A TLSCheck says how to speak TLS.
type TLSCheck struct {
	Verify bool
	SNI    string // empty: the host, or the address
}

// A DNSCheck is a question and its answer.
type DNSCheck struct {
	Query  string
	Record string // type of the record
	RCode  string // NOERROR, NXDOMAIN, ...
	Answer string // data of one of the records; empty: anything
}

// A FileCheck is a file that must be there or not.
type FileCheck struct {
	Path     string
	Absent   bool
	Contains string // empty: anything
}
