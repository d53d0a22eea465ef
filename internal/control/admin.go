package control

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

// An AdminRequest changes what operators decide about a node. The decision is kept by all nodes,
// across restarts. Exactly one of Drain, Weight, ResetWeight and Remove is set.
type AdminRequest struct {
	Node        string        `json:"node"`
	Drain       *bool         `json:"drain,omitempty"`
	Weight      *int          `json:"weight,omitempty"` // 0..lb.MaxWeight, instead of the configuration's
	ResetWeight bool          `json:"reset_weight,omitempty"`
	Remove      bool          `json:"remove,omitempty"`     // forget a node that is down
	Force       bool          `json:"force,omitempty"`      // drain the last node, too
	KillAfter   time.Duration `json:"kill_after,omitempty"` // then close what connections are left; 0: never
}

func (r *AdminRequest) check() error {
	set := 0
	for _, is := range []bool{r.Drain != nil, r.Weight != nil, r.ResetWeight, r.Remove} {
		if is {
			set++
		}
	}
	switch {
	case r.Node == "":
		return errors.New("node: missing")
	case set != 1:
		return errors.New("want exactly one of drain, weight, reset_weight and remove")
	case r.Weight != nil && (*r.Weight < 0 || *r.Weight > lb.MaxWeight):
		return fmt.Errorf("weight: %d is not in 0..%d", *r.Weight, lb.MaxWeight)
	case r.KillAfter < 0:
		return fmt.Errorf("kill_after: %s is negative", r.KillAfter)
	}
	return nil
}

// ErrLastNode refuses a drain that would leave nobody to take new flows.
var ErrLastNode = &Error{
	Code:    http.StatusConflict,
	Message: "no other node takes new flows: draining the last one needs --force",
}

// An Event is a change of the cluster as this node saw it.
type Event struct {
	Number uint64        `json:"number"`
	Time   time.Time     `json:"time"`
	Kind   string        `json:"kind"` // node, service, backend, vip, drain, ownership, config, drift
	Node   string        `json:"node,omitempty"`
	What   string        `json:"what"`           // "n2 is down"
	Why    string        `json:"why,omitempty"`  // "no heartbeat and no gossip for 412ms"
	Took   time.Duration `json:"took,omitempty"` // from cause to effect
}
