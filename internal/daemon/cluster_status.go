package daemon

import (
	"fmt"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/heartbeat"
	"github.com/lbctl/lbctl/internal/member"
	"github.com/lbctl/lbctl/internal/ownership"
	"github.com/lbctl/lbctl/internal/probe"
)

// describeChecks adds what checks found. What is wrong with a backend is told with the backends.
func describeChecks(s *control.Status, checks []probe.Status) {
	for _, check := range checks {
		s.Checks = append(s.Checks, checkOf(check))
		if check.State != health.Up && check.Backend == "" {
			s.Problems = append(s.Problems, fmt.Sprintf("service %s: check %s is %s%s", check.Service, check.Name, check.State, lastDetail(check)))
		}
	}
}

// describeCluster adds what the cluster knows to a status, and what is wrong with it.
func describeCluster(s *control.Status, c member.Status) {
	moving := 0
	for _, m := range c.Machine.Moving {
		moving += m.Buckets
	}
	s.Agreement = &control.Agreement{
		Fingerprint: fmt.Sprintf("%016x", c.Machine.Knowledge), Agreed: c.Machine.Agreed, Settled: c.Machine.Settled,
		Moving: moving, LeaseEnds: leaseText(c.Lease),
	}
	for i := range s.Nodes {
		describeMember(&s.Nodes[i], c)
	}
	for _, name := range c.Machine.Conflicts {
		s.Problems = append(s.Problems, fmt.Sprintf("node %s has another configuration (seed, VIPs or services): make lb.yaml the same on all nodes", name))
	}
	for _, r := range c.Gossip.Refused {
		s.Problems = append(s.Problems, fmt.Sprintf("a machine at %s claims to be %s with another key; if it was set up anew: lbctl nodes remove %s", r.Addr, r.Name, r.Name))
	}
	for i, link := range c.Links {
		if !link.Up {
			s.Problems = append(s.Problems, fmt.Sprintf("heartbeat %d: %s", i, link.Error))
		}
	}
	for _, m := range c.Machine.Members {
		if m.Dead {
			s.Problems = append(s.Problems, fmt.Sprintf("node %s is down", m.Name))
		}
	}
	for _, p := range everHeard(c) {
		if half := halfHeard(p, c.Heard, time.Now()); half != "" {
			s.Problems = append(s.Problems, fmt.Sprintf("node %s: %s", p.Name, half))
		}
	}
}

// everHeard is what gossip knows of all nodes that either gossip or heartbeats ever brought.
func everHeard(c member.Status) []cluster.Peer {
	peers := slices.Clone(c.Gossip.Peers)
	for _, link := range c.Heard {
		for _, heard := range link {
			if !slices.ContainsFunc(peers, func(p cluster.Peer) bool { return p.Name == heard.Name }) {
				peers = append(peers, cluster.Peer{Name: heard.Name})
			}
		}
	}
	return peers
}

// unusual is for how long only one of gossip and heartbeats brings a node before that is a problem: where
// nodes come and go, one of them knows it first.
const unusual = time.Second

// halfHeard says that a part of the network between this node and another is cut, "" if none is. The other
// part keeps the node in the cluster; nobody would notice before that is cut as well.
func halfHeard(gossip cluster.Peer, links [][]heartbeat.Peer, now time.Time) string {
	heard, since := heardOn(links, gossip.Name)
	switch {
	case heard && !gossip.Alive && now.Sub(gossip.Since) > unusual && now.Sub(since) > unusual:
		to := "the gossip port"
		if gossip.Addr.IsValid() {
			to = gossip.Addr.String()
		}
		return fmt.Sprintf("its heartbeats come, and no gossip: let UDP and TCP to %s pass in both directions", to)
	case !heard && gossip.Alive && !since.IsZero() && now.Sub(since) > unusual:
		return fmt.Sprintf("its gossip comes, and no heartbeat: let Ethernet frames of type %#x pass on the links of the VIPs", heartbeat.EtherType)
	}
	return ""
}

// heardOn says whether a peer is heard on a link, and at least since when, or since when on none: it never was
// if that is zero.
func heardOn(links [][]heartbeat.Peer, name string) (heard bool, since time.Time) {
	for _, link := range links {
		for _, p := range link {
			switch {
			case p.Name != name:
			case !p.Silent:
				return true, p.HearsMeSince
			case p.SilentSince.After(since):
				since = p.SilentSince
			}
		}
	}
	return false, since
}

func leaseText(left time.Duration) string {
	switch {
	case left == ownership.Forever:
		return "never"
	case left <= 0:
		return "lapsed"
	}
	return left.Round(time.Millisecond).String()
}

// describeMember adds what membership knows of a node.
func describeMember(n *control.Node, c member.Status) {
	facts, admin := c.Facts[n.Name], c.Admins[n.Name]
	m := &control.Member{
		State: "down", Version: facts.Version, Connections: facts.Connections, Held: facts.Held, Sick: facts.Sick,
		Draining: admin.Drain,
	}
	n.Member = m
	i := slices.IndexFunc(c.Machine.Members, func(k ownership.Member) bool { return k.Name == n.Name })
	if i < 0 {
		return
	}
	known := c.Machine.Members[i]
	m.Life = known.Life
	m.Agrees = known.Knowledge == c.Machine.Knowledge
	m.State = stateOf(known)
	if known.Dead {
		m.Connections, m.Held = 0, 0
	}
}

// stateOf is the one word for how a node takes part.
func stateOf(m ownership.Member) string {
	switch {
	case m.Dead || m.Stage == ownership.StageDown:
		return "down"
	case m.Leaving || m.Weights[desired.VIPDomain].Weight == 0 && len(m.Weights) > 0:
		return "draining"
	case m.Stage == ownership.StageUp || m.Waiting:
		return "joining"
	}
	return "active"
}

func checkOf(c probe.Status) control.Check {
	check := control.Check{
		Service: c.Service, Backend: c.Backend, Name: c.Name, Kind: c.Kind.String(), State: c.State.String(), Since: c.Since,
	}
	if c.Target.IsValid() {
		check.Target = c.Target.String()
	}
	for _, r := range c.Results {
		check.Results = append(check.Results, control.Result{At: r.At, OK: r.OK, Took: r.Took, Detail: r.Detail})
	}
	return check
}

func lastDetail(c probe.Status) string {
	if len(c.Results) == 0 {
		return ", not probed yet"
	}
	return ": " + c.Results[0].Detail
}
