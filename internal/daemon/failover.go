package daemon

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/announce"
	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/member"
	"github.com/lbctl/lbctl/internal/ownership"
)

// wholes are the domains of VIPs that one node at a time has.
func wholes(cfg *config.Config) map[string]member.Whole {
	domains := make(map[string]member.Whole)
	for i := range cfg.VIPs {
		v := &cfg.VIPs[i]
		if v.Announce != lb.AnnounceFailover {
			continue
		}
		whole := member.Whole{VIP: v.Address, Stay: !v.Preempt}
		if place := slices.Index(v.Prefer, cfg.Node); place >= 0 {
			whole.Priority = ownership.MaxPriority - place
		}
		domains[desired.Domain(v, nil)] = whole
	}
	return domains
}

// together is the health of a domain with one more service: all that is checked must be up.
func together(domain, said health.Service, service string) health.Service {
	all := health.Service{Checks: make(map[string]health.State), Agents: make(map[string]health.Agent)}
	maps.Copy(all.Checks, domain.Checks)
	maps.Copy(all.Agents, domain.Agents)
	for name, state := range said.Checks {
		all.Checks[service+" "+name] = state
	}
	for name, agent := range said.Agents {
		all.Agents[service+" "+name] = agent
	}
	return all
}

// announcements are the VIPs that this node alone has, as its kernel was told.
func announcements(state *lb.State) []announce.VIP {
	local := state.Local()
	var list []announce.VIP
	for i := range state.VIPs {
		v := &state.VIPs[i]
		if v.Announce == lb.AnnounceFailover && local != nil && ownerOf(state, v) == local && takes(state, v) {
			list = append(list, announce.VIP{Addr: v.Addr, Interface: v.Interface, MAC: v.MAC})
		}
	}
	return list
}

// ownerOf is the node that has a VIP as a whole, or nil.
func ownerOf(state *lb.State, v *lb.VIP) *lb.Node {
	owner := state.Tables[v.Table].Owners[0] // all buckets of such a VIP are alike
	if owner == lb.NoNode {
		return nil
	}
	return &state.Nodes[owner]
}

// holderOf is the node that has a VIP as a whole now, or nil when this one is about to: one that hands it over
// has it until the other one does.
func holderOf(state *lb.State, v *lb.VIP) *lb.Node {
	switch marks := state.Tables[v.Table].Marks; {
	case marks != nil && marks[0]&lb.MarkDelegate != 0:
		return state.Local()
	case !takes(state, v):
		return nil
	}
	return ownerOf(state, v)
}

// takes says whether the owner of a VIP holds it already.
func takes(state *lb.State, v *lb.VIP) bool {
	marks := state.Tables[v.Table].Marks
	return marks == nil || marks[0]&(lb.MarkWaiting|lb.MarkDelegate) == 0
}

// move carries out that a node shall have a VIP. Every node keeps the decision and tells it with its
// record; the holder hands over.
func (p *planner) move(ctx context.Context, r control.MoveRequest) error {
	if p.member == nil {
		return errStatic
	}
	vip := p.inForce().VIPsByAddress()[r.VIP]
	switch {
	case vip == nil:
		return &control.Error{Code: http.StatusNotFound, Message: fmt.Sprintf("vip %s: no such VIP", r.VIP)}
	case vip.Announce != lb.AnnounceFailover:
		return &control.Error{Code: http.StatusConflict, Message: fmt.Sprintf("vip %s: %s VIPs are on all nodes", r.VIP, vip.Announce)}
	}
	if err := p.mayHave(ctx, vip, r.Node); err != nil {
		return err
	}
	if err := p.store.MoveVIP(r.VIP, r.Node); err != nil {
		return fmt.Errorf("vip %s: %w", r.VIP, err)
	}
	what := fmt.Sprintf("%s shall have %s", r.Node, r.VIP)
	if r.Node == "" {
		what = fmt.Sprintf("%s is where the configuration says", r.VIP)
	}
	p.events.add(control.Event{Kind: "vip", Node: r.Node, What: what, Why: "decided by hand"})
	return nil
}

// mayHave refuses a node that would not get the VIP: somebody waits for it.
func (p *planner) mayHave(ctx context.Context, vip *config.VIP, node string) error {
	if node == "" {
		return nil
	}
	status, err := p.member.Status(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(status.Machine.Members, func(m ownership.Member) bool { return m.Name == node })
	refuse := func(code int, why string) error {
		return &control.Error{Code: code, Message: fmt.Sprintf("node %s: %s", node, why)}
	}
	if i < 0 {
		return refuse(http.StatusNotFound, "no such node is known")
	}
	m := &status.Machine.Members[i]
	switch w := m.Weights[desired.Domain(vip, nil)]; {
	case m.Dead || m.Stage != ownership.StageMember:
		return refuse(http.StatusConflict, "it is down")
	case w.Weight == 0:
		return refuse(http.StatusConflict, "it drains")
	case !w.Healthy:
		return refuse(http.StatusConflict, "its checks fail")
	}
	return nil
}

const (
	claimsEvery = time.Second
	claimStands = time.Minute // after the last frame
)

// A claim is that another machine says that a VIP is its own.
type claim struct {
	frames uint64 // so far
	last   time.Time
}

func (c claim) stands() bool { return !c.last.IsZero() && time.Since(c.last) < claimStands }

// lookForClaims defends VIPs that others claim, and tells of those that were not claimed before.
func (p *planner) lookForClaims() {
	counted, err := p.path.Claims()
	if err != nil {
		p.opts.Log.Warn("nobody sees whether others claim our addresses", "err", err)
		return
	}
	first := p.claims == nil
	before := p.claims
	p.claims = make(map[netip.Addr]claim, len(counted))
	for vip, frames := range counted {
		was := before[vip]
		now := claim{frames, was.last}
		if frames > was.frames && !first { // what was counted for another process is old
			now.last = time.Now()
			p.announcer.Defend(vip)
			if !was.stands() {
				p.opts.Log.Error("another machine claims an address of ours", "vip", vip)
				p.events.add(control.Event{Kind: "vip", Node: p.cfg.Node, What: claimed(vip)})
			}
		}
		p.claims[vip] = now
	}
}

func claimed(vip netip.Addr) string {
	return fmt.Sprintf("another machine claims %s: lbctl drops shows its MAC", vip)
}

// describeClaims adds the claims that stand to a status.
func describeClaims(s *control.Status, claims map[netip.Addr]claim) {
	for _, vip := range slices.SortedFunc(maps.Keys(claims), netip.Addr.Compare) {
		if claims[vip].stands() {
			s.Problems = append(s.Problems, claimed(vip))
		}
	}
}
