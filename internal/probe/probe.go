package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"time"

	"github.com/lbctl/lbctl/internal/health"
)

// A Kind is a way of probing.
type Kind uint8

// The kinds.
const (
	TCP       Kind = iota // connects, may send and expect something
	HTTP                  // one request
	HTTPS                 // the same over TLS
	TLSExpiry             // looks how long the certificate is still valid
	DNS                   // one question
	ICMP                  // one echo request
	Exec                  // runs a program
	Agent                 // asks a HAProxy agent
	File                  // looks at a file
	kindCount
)

// A try is one attempt, which ends when ctx does. A result needs no more than what the kind knows:
// Probe adds the rest.
type try func(ctx context.Context, target netip.AddrPort, spec *Spec) (health.Result, error)

var kinds = [kindCount]struct {
	name string
	try  try
}{
	TCP:       {"tcp", tryTCP},
	HTTP:      {"http", tryHTTP},
	HTTPS:     {"https", tryHTTP},
	TLSExpiry: {"tls-expiry", tryTLSExpiry},
	DNS:       {"dns", tryDNS},
	ICMP:      {"icmp", tryICMP},
	Exec:      {"exec", tryExec},
	Agent:     {"agent", tryAgent},
	File:      {"file", tryFile},
}

// String returns the word that the configuration uses.
func (k Kind) String() string {
	if k < kindCount {
		return kinds[k].name
	}
	return "invalid"
}

// ParseKind returns the kind that a word of the configuration names.
func ParseKind(word string) (Kind, error) {
	for k := range kindCount {
		if kinds[k].name == word {
			return k, nil
		}
	}
	return 0, fmt.Errorf("kind of check %q is unknown", word)
}

// A Spec says what to try. Beside Kind, only the fields of that kind count.
type Spec struct {
	Kind Kind
	TCP  TCPSpec
	HTTP HTTPSpec // and HTTPS
	TLS  TLSSpec  // of HTTPS and TLSExpiry
	Days int      // TLSExpiry: a certificate that is valid for less fails; 0: one that is not valid now
	DNS  DNSSpec
	Exec ExecSpec
	File FileSpec
	Ask  string // Agent: is sent before its line is read; may be empty

	// Dial connects to the target by "tcp" or "udp"; nil: by the routes of this machine.
	Dial func(ctx context.Context, network string) (net.Conn, error)
}

// open connects by "tcp" or "udp".
func (s *Spec) open(ctx context.Context, network string, target netip.AddrPort) (net.Conn, error) {
	if s.Dial != nil {
		return s.Dial(ctx, network)
	}
	return new(net.Dialer).DialContext(ctx, network, target.String())
}

// A TCPSpec is what to say and to hear on a connection. Either may be empty.
type TCPSpec struct {
	Send   string
	Expect string // must be in the first 64 KiB of what comes
}

// An HTTPSpec is a request and what must come back. Redirects are not followed: to be redirected
// is an answer like any other.
type HTTPSpec struct {
	Method  string // empty: GET
	Path    string // with the query; empty: /
	Host    string // empty: the target
	Headers map[string]string
	Status  []StatusRange  // empty: 200-299
	Body    *regexp.Regexp // must match in the first 256 KiB; nil: anything
}

// A StatusRange is one status, or all from the first to the last.
type StatusRange struct{ First, Last int }

// A TLSSpec says how to speak TLS.
type TLSSpec struct {
	NoVerify bool   // HTTPS: takes any certificate
	SNI      string // also the name that the certificate must have; empty: the host, or the target's address
	CAFile   string // PEM, read for each probe; empty: the system's
}

// A DNSSpec is a question and its answer. It is asked over UDP, and again over TCP when the answer
// does not fit.
type DNSSpec struct {
	Name   string
	Type   string // empty: A
	RCode  string // NXDOMAIN, REFUSED, ...; empty: NOERROR
	Answer string // data of one of the records, such as 192.0.2.7; empty: with NOERROR, any record
}

// An ExecSpec is a program to run: exit status 0 is well. There is no shell. A program that
// somebody else than root and this process's user could replace is refused. It gets no other
// environment than PATH, LANG, and LB_ADDRESS and LB_PORT of the target, runs in / and is killed
// with all it started when the probe ends. The first KiB of its output is the detail.
type ExecSpec struct {
	Command []string // an absolute path, and arguments
}

// A FileSpec is a file that must be there or not.
type FileSpec struct {
	Path     string
	Absent   bool
	Contains string // must be in its first 64 KiB; empty: anything
}

// Probe tries once. The target of kinds without port, address or both is not looked at. A probe
// that is still under way when ctx ends has failed.
func Probe(ctx context.Context, target netip.AddrPort, spec *Spec) health.Result {
	start := time.Now()
	if spec.Kind >= kindCount {
		return health.Result{At: start, Detail: fmt.Sprintf("kind of check %d is unknown", spec.Kind)}
	}
	if ctx.Err() != nil {
		return health.Result{At: start, Detail: "stopped"}
	}
	result, err := kinds[spec.Kind].try(ctx, target, spec)
	result.At, result.Took, result.OK = start, time.Since(start), err == nil
	if err != nil {
		result.Detail = err.Error()
	}
	result.Detail = line(result.Detail)
	return result
}

func found(format string, args ...any) (health.Result, error) {
	return health.Result{Detail: fmt.Sprintf(format, args...)}, nil
}

func failed(format string, args ...any) (health.Result, error) {
	return health.Result{}, fmt.Errorf(format, args...)
}
