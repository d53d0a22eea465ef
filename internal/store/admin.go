package store

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

// A NodeAdmin is what people decided about a node.
type NodeAdmin struct {
	Drain      bool      // takes no new flows
	DrainSince time.Time // to the millisecond, by the clock of the node that was told; zero without Drain
	KillAt     time.Time // when connections that are left are closed; zero: they may stay
	Weight     *int      // 0..lb.MaxWeight instead of the configured one; nil for the configured one
	Removed    bool      // belongs to the cluster no more
}

// Each decision has a key of its own, so that two people who decide two things about one node at
// the same time on two nodes both get what they want. Node names hold no slash.
const (
	adminPrefix  = "node/"
	adminDrain   = "drain"   // milliseconds since 1970
	adminKill    = "kill"    // milliseconds since 1970
	adminWeight  = "weight"  // decimal
	adminRemoved = "removed" // 1
)

// SetDrain drains a node or ends that. A node that is drained again stays drained since the first
// time, and keeps its connections as long as they last until SetKill says otherwise.
func (s *Store) SetDrain(node string, drain bool) error {
	since := time.Now()
	if old := s.Admins()[node]; old.Drain {
		since = old.DrainSince
	}
	if err := s.setAdmin(node, adminKill, false, ""); err != nil {
		return err
	}
	return s.setAdmin(node, adminDrain, drain, strconv.FormatInt(since.UnixMilli(), 10))
}

// SetKill says when a node that drains closes the connections that it has left.
func (s *Store) SetKill(node string, at time.Time) error {
	return s.setAdmin(node, adminKill, true, strconv.FormatInt(at.UnixMilli(), 10))
}

// SetWeight sets a node's weight by hand; nil gives it back to the configuration.
func (s *Store) SetWeight(node string, weight *int) error {
	if weight == nil {
		return s.setAdmin(node, adminWeight, false, "")
	}
	if *weight < 0 || *weight > lb.MaxWeight {
		return fmt.Errorf("store: node %s: weight %d is not in 0..%d", node, *weight, lb.MaxWeight)
	}
	return s.setAdmin(node, adminWeight, true, strconv.Itoa(*weight))
}

// SetRemoved takes a node out of the cluster or lets it in again.
func (s *Store) SetRemoved(node string, removed bool) error {
	return s.setAdmin(node, adminRemoved, removed, "1")
}

func (s *Store) setAdmin(node, what string, set bool, value string) error {
	if strings.Contains(node, "/") {
		return fmt.Errorf("store: node name %q: no slash is allowed", node)
	}
	if err := checkText("node name", node, MaxNode); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	key := adminPrefix + node + "/" + what
	if !set {
		return s.Delete(key)
	}
	return s.Set(key, []byte(value))
}

// Admins returns what was decided about nodes, by their names. Nodes that nobody decided anything
// about are not in it; what only a newer version understands is left out.
func (s *Store) Admins() map[string]NodeAdmin {
	admins := make(map[string]NodeAdmin)
	for _, e := range s.All(adminPrefix) {
		node, what, _ := strings.Cut(strings.TrimPrefix(e.Key, adminPrefix), "/")
		admin := admins[node]
		if admin.read(what, string(e.Value)) {
			admins[node] = admin
		}
	}
	return admins
}

// read takes one decision and says whether it understood it.
func (a *NodeAdmin) read(what, value string) bool {
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case err != nil:
		return false
	case what == adminDrain:
		a.Drain, a.DrainSince = true, time.UnixMilli(n)
	case what == adminKill:
		a.KillAt = time.UnixMilli(n)
	case what == adminWeight && n >= 0 && n <= lb.MaxWeight:
		a.Weight = new(int(n))
	case what == adminRemoved:
		a.Removed = true
	default:
		return false
	}
	return true
}
