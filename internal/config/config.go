// Package config turns the text of lb.yaml into a Config, or into every error there is in it, each
// with its place.
package config

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

// A Config is a valid configuration with every default filled in.
type Config struct {
	ClusterName string
	Seed        [32]byte // key of the flow hash
	Node        string   // name of this machine, one of Nodes
	Nodes       []Node   // in the order of the file
	Attach      string   // auto, native or generic
	Shutdown    Shutdown
	SampleDrops uint32 // one of so many drops is kept for lbctl drops; 0: none
	VIPs        []VIP
	Services    []Service
	Membership  *Membership // nil: the nodes are as written, always up
	Hooks       []Hook
	Masquerade  []lb.Masquerade // of what backends begin themselves
	// Backend is what this machine does instead; then only Attach and Shutdown count besides. Nil: it
	// is a node.
	Backend *BackendRole
}

// A Node is a machine of the cluster.
type Node struct {
	Name      string
	Addresses []netip.Addr
	MAC       net.HardwareAddr // nil: learnt
	Weight    int              // 0..lb.MaxWeight
}

// A VIP is an address that all nodes hold.
type VIP struct {
	Address   netip.Addr
	Interface string
	Announce  lb.Announce
	MACForm   lb.MACForm
	MAC       net.HardwareAddr // of lb.MACExplicit only
	Other     lb.OtherTraffic

	// Of lb.AnnounceFailover:

	Prefer  []string // names of nodes: the first that is up has the VIP; none of them up: any other
	Preempt bool     // one that comes back takes the VIP from those behind it
}

// VIPsByAddress finds the VIPs that services name.
func (c *Config) VIPsByAddress() map[netip.Addr]*VIP {
	vips := make(map[netip.Addr]*VIP, len(c.VIPs))
	for i := range c.VIPs {
		vips[c.VIPs[i].Address] = &c.VIPs[i]
	}
	return vips
}

// A Service is one or more VIPs, a protocol and ports.
type Service struct {
	Name     string
	VIPs     []netip.Addr
	Protocol lb.Protocol
	Ports    []lb.PortRange // sorted and disjoint
	Hash     lb.HashFields
	Forward  lb.Forward
	MinNodes int           // of lb.ForwardLocal; fewer healthy nodes: health is ignored
	UDPIdle  time.Duration // that UDP flows of moved buckets keep their node
	Checks   []Check       // all must be up: of the node, or of each backend

	// Of all but lb.ForwardLocal:

	Encap lb.Encap // of lb.ForwardTunnel
	// SourceNAT, of lb.ForwardNAT: flows leave from ports of the VIP, so that replies come to it.
	SourceNAT bool
	MSS       uint16        // that larger ones of SYNs are cut to; 0: they stay
	FlowIdle  time.Duration // a flow that says nothing for so long is over
	// Scheduler other than lb.SchedulerMaglev, Affinity or a MaxConn mean that each flow is remembered.
	Scheduler lb.Scheduler
	Affinity  time.Duration // that a client keeps its backend after its last new flow; 0: it does not
	Overflow  lb.Overflow   // of backends with MaxConn
	Agree     int           // percent of the directors that must find a backend healthy, 1..100
	Backends  []Backend     // in the order of the file
	Sorry     *Backend      // gets flows while no other backend can, unless health is ignored then; nil: none
	// MinBackends is how many must be able to serve: below it backups help, and if there are too few
	// even then, health is ignored. 0: backups help when nobody else can, and health always counts.
	MinBackends int
	Fails       Fails // of backends that do not have their own
}

// Fails says when connections of clients that fail take a backend out: MaxFails of them within Timeout,
// and for as long. 0: none do.
type Fails struct {
	Max     int
	Timeout time.Duration
}

// Watches says whether connections that fail take a backend of the service out.
func (s *Service) Watches() bool {
	return slices.ContainsFunc(s.Backends, func(b Backend) bool { return b.Fails.Max > 0 })
}

// A Backend is a real server that a service forwards to.
type Backend struct {
	Name      string // unique in the service
	Address   netip.Addr
	Port      uint16        // of lb.ForwardNAT; 0: the packet's own
	Weight    int           // 0..lb.MaxWeight
	Backup    bool          // gets flows while too few others can
	Down      bool          // takes no part
	SlowStart time.Duration // in which its weight grows when it came up; 0: at once
	Fails     Fails
	MaxConn   int // connections at the same time, all directors together; 0: any number
}

// Idle is how long flows of a service that forwards may be silent and are still kept: of TCP, and of
// anything else; 0 for what it does not have.
func (s *Service) Idle() (tcp, other time.Duration) {
	if s.Protocol != lb.ProtocolUDP {
		tcp = s.FlowIdle
	}
	if s.Protocol != lb.ProtocolTCP {
		other = s.UDPIdle
	}
	return tcp, other
}

// Shutdown is what SIGTERM does to the datapath.
type Shutdown string

// Leave lets the kernel go on serving without lbd; Withdraw removes everything lbd added.
const (
	Leave    Shutdown = "leave"
	Withdraw Shutdown = "withdraw"
)

// Limits of what a file may ask for.
const (
	maxBytes       = 1 << 20
	maxAliases     = 4096 // a few for each service
	maxItems       = 4096 // of a list, before its own limit is known; an alias repeats it at no cost
	maxVIPs        = 1000
	maxPorts       = 65535
	maxRanges      = 1024 // of one service; more is a list that should be "all"
	maxSample      = 1 << 31
	maxServers     = 1 << 16 // backends of all services
	maxReplies     = 1 << 16 // pairs of backend and port that NAT knows replies by
	minSourcePorts = 1 << 14 // of a VIP, that source-nat has at least
	maxTranslated  = 4096    // ports of one service with NAT, unless it has all
	maxName        = 63
	maxNetName     = 15 // IFNAMSIZ less the NUL
	maxErrors      = 100
	maxShown       = 100 // characters of a value in a message

	maxWitnesses = 8
	maxHooks     = 32
	maxMasks     = 64 // masquerades, and prefixes of one
	maxChecks    = 16 // of one service
	maxArguments = 64
	maxText      = 1024 // bytes of a path, an argument or what is sent and expected
	maxPattern   = 256
	maxPatterns  = 64
	minInterval  = 100 * time.Millisecond

	maxSlowStart = time.Hour
	maxFails     = 1000

	minMSS = 536   // what every IPv4 host can take, RFC 9293
	maxMSS = 65495 // of the largest packet
)

// defaults is what a file that says nothing else gets.
func defaults() Config {
	return Config{
		Attach:      "auto", // native where the driver can
		Shutdown:    Leave,  // an upgrade must not be an outage
		SampleDrops: 1000,   // enough to see a pattern, too few to cost anything
	}
}

const (
	defaultWeight      = 100 // of a node or backend: halves and doubles are whole numbers
	defaultProtocol    = lb.ProtocolTCP
	defaultNetBits4    = 24               // of hash: source-net, what other balancers call class C affinity
	defaultNetBits6    = 64               // one network of IPv6
	defaultFlowIdle    = 15 * time.Minute // longer than most keepalives and idle timeouts
	defaultFailTimeout = 10 * time.Second // nginx's
	defaultAgree       = 50               // two directors that differ: it is the way of one of them
)

// What membership, checks and hooks do unless told otherwise.
const (
	defaultPort        = 7946 // memberlist's own
	defaultHeartbeat   = 40 * time.Millisecond
	defaultAbsence     = 10 * time.Second // a restart of lbd, with room for a slow disk
	defaultUDPIdle     = 30 * time.Second // conntrack's for UDP without an answer
	defaultInterval    = 2 * time.Second  // with rise and fall: down after 7 s at most, up after 4 s
	defaultTimeout     = time.Second
	defaultRise        = 2
	defaultFall        = 3
	defaultResults     = 20
	defaultDays        = 14 // half the time that ACME clients renew before
	defaultHookTimeout = 10 * time.Second
	defaultHookUser    = "nobody"
)

// defaultHash spreads the connections of one client, as CLUSTERIP's sourceip-sourceport did.
var defaultHash = lb.HashSourcePort
