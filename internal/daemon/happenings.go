package daemon

import (
	"fmt"
	"time"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/ownership"
)

// happened logs and keeps what the machine tells.
func (p *planner) happened(h ownership.Happening) {
	attributes := []any{"what", h.Kind.String(), "node", h.Node}
	if h.Buckets > 0 {
		attributes = append(attributes, "buckets", h.Buckets)
	}
	if h.Reason != "" {
		attributes = append(attributes, "reason", h.Reason)
	}
	if h.Took > 0 {
		attributes = append(attributes, "took", h.Took.Round(time.Millisecond))
	}
	p.opts.Log.Info("cluster", attributes...)
	p.events.add(eventOf(h))
	p.stir()
	p.forwarder.stir() // a dead director has no vote
}

// eventOf says what happened to a node, or where buckets went, in words.
func eventOf(h ownership.Happening) control.Event {
	e := control.Event{Kind: "ownership", Node: h.Node, Why: h.Reason, Took: h.Took}
	switch h.Kind {
	case ownership.HappeningMember:
		e.Kind, e.What, e.Why = "node", h.Node+" is "+memberText(h.Reason), ""
	case ownership.HappeningDied:
		e.Kind, e.What, e.Why = "node", h.Node+" is dead", "neither heartbeat nor gossip came from it"
	case ownership.HappeningNewLife:
		e.Kind, e.What = "node", h.Node+" begins anew, with no bucket"
	case ownership.HappeningFounded:
		e.Kind, e.What = "node", h.Node+" founded the cluster"
	case ownership.HappeningAdopted:
		e.Kind, e.What = "node", "this node joined the cluster that "+h.Node+" founded"
	case ownership.HappeningHanded:
		e.What = fmt.Sprintf("%d buckets went to %s", h.Buckets, h.Node)
	case ownership.HappeningRefused:
		e.What, e.Why = fmt.Sprintf("%s did not take %d buckets yet", h.Node, h.Buckets), "it knew more or less than this node"
	case ownership.HappeningTaken:
		e.What = fmt.Sprintf("%d buckets came from %s", h.Buckets, h.Node)
	case ownership.HappeningMade:
		e.What, e.Why = fmt.Sprintf("%d buckets taken over", h.Buckets), "no living node had them"
	case ownership.HappeningSettled:
		e.What = fmt.Sprintf("this node has the %d buckets that it should have", h.Buckets)
	case ownership.HappeningConflict:
		e.Kind, e.What = "config", h.Node+" has another configuration"
	case ownership.HappeningAbsent:
		e.Kind, e.What = "node", h.Node+" takes leave of absence"
	case ownership.HappeningAbsenceRefused:
		e.Kind, e.What = "node", h.Node+" gets no leave of absence"
	case ownership.HappeningLeft:
		e.Kind, e.What = "node", h.Node+" left"
	default:
		e.What = h.Node + ": " + h.Kind.String()
	}
	return e
}

// memberText says how far a node is.
func memberText(state string) string {
	switch state {
	case ownership.StageDown.String():
		return "there, without a lease"
	case ownership.StageUp.String():
		return "there, and not yet a member"
	case ownership.StageMember.String():
		return "a member"
	}
	return state
}
