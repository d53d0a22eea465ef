package config

import (
	"net/netip"
	"time"
)

// Membership says how nodes find each other and notice deaths.
type Membership struct {
	Port      uint16 // TCP and UDP, on the first address of this node
	KeyFile   string // an absolute path; empty: Insecure
	Insecure  bool
	Preset    Preset
	Partition Partition
	Witness   []netip.Addr  // of PartitionWitness only
	Heartbeat time.Duration // between two frames on each VIP interface
	DeadAfter time.Duration // without gossip and heartbeat; at least three heartbeats
	Lease     time.Duration // of new flows; ends at least a heartbeat before DeadAfter
	Absence   time.Duration // that a planned restart may take
}

// A Preset is a set of gossip timings for a kind of network.
type Preset string

// The presets.
const (
	PresetLAN Preset = "lan" // one site
	PresetWAN Preset = "wan" // several
)

// String returns the word of the file.
func (p Preset) String() string { return string(p) }

// Partition is which side of a cut goes on.
type Partition string

// The policies.
const (
	PartitionAny      Partition = "any"      // every side
	PartitionMajority Partition = "majority" // that with more than half of the nodes
	PartitionWitness  Partition = "witness"  // that which hears a witness
)

// String returns the word of the file.
func (p Partition) String() string { return string(p) }

// A Hook is a program that is told of changes.
type Hook struct {
	Command []string // an absolute path, and arguments
	On      []HookEvent
	Timeout time.Duration
	User    string // that it runs as
}

// A HookEvent is a kind of change that hooks are told.
type HookEvent string

// The kinds of change.
const (
	HookNode    HookEvent = "node"
	HookService HookEvent = "service"
	HookVIP     HookEvent = "vip"
	HookDrain   HookEvent = "drain"
)

// String returns the word of the file.
func (e HookEvent) String() string { return string(e) }
