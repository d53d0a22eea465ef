// Package control is the daemon's Unix socket: HTTP with JSON, its wire types, server and client.
package control

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// A Status is what the daemon knows about itself, as GET /v1/status answers it. The words in it
// (multicast, source+port, local, ...) are those of the configuration file.
type Status struct {
	Problems   []string     `json:"problems"` // worst first; empty when all is well
	Version    string       `json:"version"`
	PID        int          `json:"pid"`
	Started    time.Time    `json:"started"`
	Cluster    string       `json:"cluster"`
	Node       string       `json:"node"`       // this machine's name in the cluster
	Generation uint64       `json:"generation"` // number of the state that was applied last
	Config     ConfigStatus `json:"config"`
	Attach     []Attachment `json:"attach"`              // by interface
	VIPs       []VIP        `json:"vips"`                // by address
	Services   []Service    `json:"services"`            // by VIP and name
	Backends   []Backend    `json:"backends,omitempty"`  // of services that forward, by service and name
	Nodes      []Node       `json:"nodes"`               // by name
	Drift      []string     `json:"drift"`               // what somebody else changed on this machine, by text
	Agreement  *Agreement   `json:"agreement,omitempty"` // nil without membership
	Checks     []Check      `json:"checks,omitempty"`    // by service, backend and name
	Hooks      []Hook       `json:"hooks,omitempty"`
	Masquerade []Masquerade `json:"masquerade,omitempty"`  // in the order in which they apply
	RealServer *RealServer  `json:"real_server,omitempty"` // of a machine with role: backend, which is no node
}

// A RealServer is what a machine does that directors forward to.
type RealServer struct {
	Interface string        `json:"interface"`
	Method    string        `json:"method"` // dr or tunnel
	VIPs      []netip.Addr  `json:"vips"`
	Directors []netip.Addr  `json:"directors"` // whose tunnels are taken off
	Tunnels   []TunnelCount `json:"tunnels"`
}

// A TunnelCount is what became of frames, by the reason that the program had.
type TunnelCount struct {
	Reason  string `json:"reason"`
	Verdict string `json:"verdict"`
	Count
}

// An Agreement says how far the nodes know the same and hold what they should.
type Agreement struct {
	Fingerprint string `json:"fingerprint"` // of what this node knows, hexadecimal
	Agreed      bool   `json:"agreed"`      // all nodes that are up report the same fingerprint
	Settled     bool   `json:"settled"`     // this node holds what it should, and nothing else
	Moving      int    `json:"moving"`      // buckets of this node that are on their way to or from another
	LeaseEnds   string `json:"lease_ends"`  // how long new flows are taken without renewal; "never" without peers
}

// A Check is a health check of this node.
type Check struct {
	Service string    `json:"service"`
	Backend string    `json:"backend,omitempty"` // that it is about; empty: this node
	Name    string    `json:"name"`
	Kind    string    `json:"kind"`
	Target  string    `json:"target,omitempty"`
	State   string    `json:"state"` // up, down or unknown
	Since   time.Time `json:"since"`
	Results []Result  `json:"results"` // newest first
}

// A Hook is a program that is told what changes.
type Hook struct {
	Command []string `json:"command"`
	Waiting int      `json:"waiting"`          // events
	Dropped uint64   `json:"dropped"`          // events, because too many waited
	Failed  string   `json:"failed,omitempty"` // why its last run failed
}

// A Masquerade is what machines behind this one begin themselves, and which source it gets.
type Masquerade struct {
	From []netip.Prefix `json:"from"`
	Out  string         `json:"out"`
	To   netip.Addr     `json:"to,omitzero"` // none: what the interface has for itself
}

// A Result is what one probe found.
type Result struct {
	At     time.Time     `json:"at"`
	OK     bool          `json:"ok"`
	Took   time.Duration `json:"took"`
	Detail string        `json:"detail"`
}

// A ConfigStatus says which file is in force.
type ConfigStatus struct {
	File      string    `json:"file"`
	LoadedAt  time.Time `json:"loaded_at"`
	LastError string    `json:"last_error"` // why the newest file was refused; empty when it was not
}

// An Attachment is the datapath on one interface.
type Attachment struct {
	Interface string `json:"interface"`
	Mode      string `json:"mode"` // native or generic
	ProgramID uint32 `json:"program_id"`
}

// A VIP is an address that all nodes hold.
type VIP struct {
	Address    netip.Addr `json:"address"`
	Interface  string     `json:"interface"`
	MAC        string     `json:"mac"`
	MACForm    string     `json:"mac_form"`
	Announce   string     `json:"announce"`
	Other      string     `json:"other"`           // what happens to traffic that no service names
	OwnedShare float64    `json:"owned_share"`     // 0..1 of the VIP's own buckets that are this node's
	Owner      string     `json:"owner,omitempty"` // the node that has a VIP which one node at a time announces
}

// A Service is a VIP, a protocol and ports.
type Service struct {
	Name     string     `json:"name"`
	VIP      netip.Addr `json:"vip"`
	Protocol string     `json:"protocol"`
	Ports    []string   `json:"ports"` // "443", "8000-8099" or "all", ascending
	Hash     string     `json:"hash"`
	Forward  string     `json:"forward"`
	// Scheduler chooses backends, of all but local: maglev, round-robin, least-conn or random. Affinity
	// is how long a client keeps its backend; left out: it does not.
	Scheduler string  `json:"scheduler,omitempty"`
	Affinity  float64 `json:"affinity,omitempty"` // seconds
	Shares    []Share `json:"shares"`             // by node
	Accepted  Count   `json:"accepted"`           // or forwarded to a backend
	Ignored   Count   `json:"ignored"`            // other nodes' flows
}

// A Share is the part of a service's buckets that a node owns, 0..1.
type Share struct {
	Node  string  `json:"node"`
	Share float64 `json:"share"`
}

// A Count is what this node has seen since its maps were made.
type Count struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// A Node is a machine of the cluster.
type Node struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
	Weight    int          `json:"weight"`
	Local     bool         `json:"local"`
	Share     float64      `json:"share"`            // 0..1 of all buckets of all services
	Member    *Member      `json:"member,omitempty"` // nil without membership
}

// A Member is a node as membership sees it.
type Member struct {
	State       string    `json:"state"` // joining, active, draining or down
	Since       time.Time `json:"since"` // when it got into that state
	Life        uint64    `json:"life"`  // number of its lbd's starts
	Version     string    `json:"version"`
	Connections int       `json:"connections"` // TCP connections to VIPs, as it counted last
	Held        int       `json:"held"`        // buckets whose new flows it takes, of all tables
	Agrees      bool      `json:"agrees"`      // it knows what this node knows
	Draining    bool      `json:"draining"`    // an operator said so
	Sick        []string  `json:"sick"`        // services whose checks fail there
	Problem     string    `json:"problem,omitempty"`
}

// sorted returns a copy in the order that the fields promise, with empty lists where there were
// nil ones: scripts compare answers, and null is no list.
func (s Status) sorted() Status {
	s.Problems = list(s.Problems)
	s.Drift = list(s.Drift)
	slices.Sort(s.Drift)
	s.Attach = list(s.Attach)
	slices.SortFunc(s.Attach, func(a, b Attachment) int { return cmp.Compare(a.Interface, b.Interface) })
	s.VIPs = list(s.VIPs)
	slices.SortFunc(s.VIPs, func(a, b VIP) int { return a.Address.Compare(b.Address) })
	s.Services = list(s.Services)
	slices.SortFunc(s.Services, func(a, b Service) int {
		return cmp.Or(a.VIP.Compare(b.VIP), cmp.Compare(a.Name, b.Name))
	})
	for i := range s.Services {
		service := &s.Services[i]
		service.Ports = list(service.Ports)
		service.Shares = list(service.Shares)
		slices.SortFunc(service.Shares, func(a, b Share) int { return cmp.Compare(a.Node, b.Node) })
	}
	s.Backends = slices.Clone(s.Backends)
	slices.SortFunc(s.Backends, func(a, b Backend) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Name, b.Name))
	})
	s.Nodes = list(s.Nodes)
	slices.SortFunc(s.Nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	if s.RealServer != nil {
		server := *s.RealServer
		server.VIPs, server.Directors, server.Tunnels = list(server.VIPs), list(server.Directors), list(server.Tunnels)
		s.RealServer = &server
	}
	for i := range s.Nodes {
		s.Nodes[i].Addresses = list(s.Nodes[i].Addresses)
	}
	return s
}

// list returns a copy that is never nil.
func list[T any](of []T) []T { return append([]T{}, of...) }
