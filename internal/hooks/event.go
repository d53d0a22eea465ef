// Package hooks tells programs of operators what changed.
package hooks

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/lbctl/lbctl/internal/config"
)

// An Event is a change of the state of something.
type Event struct {
	Time     time.Time        `json:"time"`
	Cluster  string           `json:"cluster"`
	Node     string           `json:"node"` // that tells
	Kind     config.HookEvent `json:"kind"`
	Name     string           `json:"name"` // of the node or service, or the address of the VIP
	State    State            `json:"state"`
	Before   State            `json:"before,omitempty"` // empty: not known, or no matter
	Priority int              `json:"priority"`         // weight of the node that the state is of, 0..256
	What     string           `json:"what"`             // in words
	Why      string           `json:"why,omitempty"`
}

// A State is one of those that keepalived's notify scripts know.
type State string

// The states.
const (
	Master  State = "MASTER"  // it takes new flows
	Backup  State = "BACKUP"  // it could, and does not
	Fault   State = "FAULT"   // it cannot
	Stop    State = "STOP"    // lbd ends and takes the VIP back
	Deleted State = "DELETED" // it is not there any more
)

// arguments are those of keepalived's notify scripts: GROUP or INSTANCE, name, state, priority. Nodes
// are groups, as each stands for all that it serves.
func (e *Event) arguments() []string {
	what := "INSTANCE"
	if e.Kind == config.HookNode || e.Kind == config.HookDrain {
		what = "GROUP"
	}
	return []string{what, e.Name, string(e.State), strconv.Itoa(e.Priority)}
}

// environment is for scripts that do not read JSON, and get more than one kind of event.
func (e *Event) environment() []string {
	return []string{"LB_EVENT=" + e.Kind.String(), "LB_CLUSTER=" + e.Cluster, "LB_NODE=" + e.Node}
}

// line is the event as one line of JSON.
func (e *Event) line() ([]byte, error) {
	line, err := json.Marshal(e)
	return append(line, '\n'), err
}
