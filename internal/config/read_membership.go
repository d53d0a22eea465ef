package config

import (
	"net/netip"
	"slices"
	"time"
)

func (r *reader) membership(c *Config, v value) {
	if !v.given() {
		return
	}
	f, ok := r.fields(v, "port", "key-file", "insecure", "preset", "partition", "witness",
		"heartbeat", "dead-after", "lease", "absence")
	if !ok {
		r.toldStatic = true // not so: what it is could not be read
		return
	}
	m := &Membership{
		Port:     uint16(r.integer(f["port"], 1, maxPorts, defaultPort)),
		KeyFile:  r.absolute(f["key-file"]),
		Insecure: r.boolean(f["insecure"], false),
		Preset:   Preset(r.word(f["preset"], string(PresetLAN), string(PresetLAN), string(PresetWAN))),
		Absence:  r.duration(f["absence"], time.Second, 10*time.Minute, defaultAbsence),
	}
	switch {
	case m.Insecure && f["key-file"].given():
		r.fail(f["insecure"], "leave out one of them", "there is a key-file as well")
	case !m.Insecure && !f["key-file"].given() && !r.wrong(f["insecure"]):
		r.fail(at(f["key-file"], v), `name the file of the cluster's key, or say "insecure: true" where the network is to be trusted`, "missing")
	}
	r.partition(c, m, f["partition"], f["witness"])
	r.liveness(m, f["heartbeat"], f["dead-after"], f["lease"])
	c.Membership = m
}

// partition follows the number of nodes: of two, no majority is left when one dies.
func (r *reader) partition(c *Config, m *Membership, v, witness value) {
	fallback := PartitionAny
	switch {
	case witness.given():
		fallback = PartitionWitness
	case len(c.Nodes) > 2:
		fallback = PartitionMajority
	}
	m.Partition = Partition(r.word(v, string(fallback), string(PartitionAny), string(PartitionMajority), string(PartitionWitness)))
	switch {
	case witness.given() && m.Partition != PartitionWitness:
		r.fail(witness, "", `only "partition: witness" has witnesses`)
		return
	case !witness.given() && m.Partition == PartitionWitness:
		r.fail(at(witness, v), "name addresses that answer while the network is well, such as the gateway's", "missing")
		return
	}
	items, ok := r.items(witness, true)
	switch {
	case ok && witness.given() && len(items) == 0:
		r.fail(witness, "", "names no address")
	case len(items) > maxWitnesses:
		r.fail(witness, "", "%d witnesses are more than %d", len(items), maxWitnesses)
		return
	}
	for _, item := range items {
		if a := r.address(item); a.IsValid() && r.outside(c, item, a, m.Witness) {
			m.Witness = append(m.Witness, a)
		}
	}
}

// outside says whether a witness is none of us: one that goes down with a node tells nothing.
func (r *reader) outside(c *Config, v value, a netip.Addr, before []netip.Addr) bool {
	if slices.Contains(before, a) {
		r.fail(v, "", "%s is given twice", a)
		return false
	}
	for _, n := range c.Nodes {
		if slices.Contains(n.Addresses, a) {
			r.fail(v, "", "%s is an address of node %q; a witness is no node", a, n.Name)
			return false
		}
	}
	return true
}

// liveness reads when a node is dead, and that it stops before others start.
func (r *reader) liveness(m *Membership, heartbeat, deadAfter, lease value) {
	before := len(r.errs)
	m.Heartbeat = r.duration(heartbeat, 20*time.Millisecond, 5*time.Second, defaultHeartbeat)
	m.DeadAfter = r.duration(deadAfter, 160*time.Millisecond, time.Minute, 10*m.Heartbeat)
	m.Lease = r.duration(lease, 20*time.Millisecond, time.Minute, m.latestLease())
	if len(r.errs) > before {
		return
	}
	if m.DeadAfter < 8*m.Heartbeat {
		r.fail(at(deadAfter, heartbeat), "a lost frame is no death", "%s is less than eight heartbeats of %s", m.DeadAfter, m.Heartbeat)
		return
	}
	if latest := m.latestLease(); m.Lease > latest {
		r.fail(at(lease, deadAfter), "a node must have stopped before another takes its place",
			"%s does not end before dead-after %s with a margin: at most %s", m.Lease, m.DeadAfter, latest)
	}
}

// Heard is how old the newest frame of a node may be that a peer confirms, before the peer counts as
// not hearing it: a frame may be lost, and the confirmation waits for the peer's next frame.
func (m *Membership) Heard() time.Duration { return m.Heartbeat * 5 / 2 }

// Tick is how often a node looks at the time.
func (m *Membership) Tick() time.Duration { return m.Heartbeat / 4 }

// latestLease is what is left of dead-after, by a clock that goes five percent wrong: a node that is
// heard no more may renew its lease until that was confirmed last, and until a peer says otherwise.
func (m *Membership) latestLease() time.Duration {
	return (m.DeadAfter*20/21 - 2*m.Heard() - m.Tick()).Truncate(time.Millisecond)
}
