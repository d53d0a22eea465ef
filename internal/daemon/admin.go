package daemon

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/member"
	"github.com/lbctl/lbctl/internal/ownership"
)

// errStatic refuses what only nodes that talk to each other can keep.
var errStatic = &control.Error{
	Code:    http.StatusConflict,
	Message: "the nodes are as the configuration says: drain and weight need cluster.membership in it",
}

// admin carries out what an operator decides about a node. Every node keeps it; the one that it is
// about acts on it.
func (p *planner) admin(ctx context.Context, r control.AdminRequest) error {
	if p.member == nil {
		return errStatic
	}
	status, err := p.member.Status(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(status.Machine.Members, func(m ownership.Member) bool { return m.Name == r.Node })
	if i < 0 {
		return &control.Error{Code: http.StatusNotFound, Message: fmt.Sprintf("node %s: no such node is known", r.Node)}
	}
	switch {
	case r.Drain != nil:
		if *r.Drain && !r.Force && !othersServe(status, r.Node) {
			return control.ErrLastNode
		}
		err = p.store.SetDrain(r.Node, *r.Drain)
		if err == nil && *r.Drain && r.KillAfter > 0 {
			err = p.store.SetKill(r.Node, time.Now().Add(r.KillAfter))
		}
	case r.Weight != nil:
		err = p.store.SetWeight(r.Node, r.Weight)
	case r.ResetWeight:
		err = p.store.SetWeight(r.Node, nil)
	case r.Remove:
		err = p.remove(status.Machine.Members[i])
	}
	if err != nil {
		return fmt.Errorf("node %s: %w", r.Node, err)
	}
	_ = p.within(ctx, func() { p.tellDecision(r) })
	p.events.add(control.Event{Kind: "drain", Node: r.Node, What: decision(r), Why: "decided by hand"})
	return nil
}

func decision(r control.AdminRequest) string {
	switch {
	case r.Drain != nil && *r.Drain:
		return r.Node + " drains"
	case r.Drain != nil:
		return r.Node + " takes new flows again"
	case r.Weight != nil:
		return fmt.Sprintf("%s has weight %d", r.Node, *r.Weight)
	case r.ResetWeight:
		return r.Node + " has the weight of its configuration"
	}
	return r.Node + " is removed"
}

// othersServe says whether a node other than that one takes new flows.
func othersServe(status member.Status, node string) bool {
	return slices.ContainsFunc(status.Machine.Members, func(m ownership.Member) bool {
		return m.Name != node && !m.Dead && m.Stage == ownership.StageMember &&
			m.Weights[desired.VIPDomain].Weight > 0 && !status.Admins[m.Name].Drain
	})
}

func (p *planner) remove(m ownership.Member) error {
	if !m.Dead {
		return &control.Error{Code: http.StatusConflict, Message: "it is alive: stop its lbd first"}
	}
	if err := p.store.SetDrain(m.Name, false); err != nil {
		return err
	}
	if err := p.store.SetWeight(m.Name, nil); err != nil {
		return err
	}
	return p.member.Forget(m.Name)
}
