package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/lbctl/lbctl/internal/lb"
)

// A Backend is a real server of a service that forwards, as the node that answers sees it.
type Backend struct {
	Service string     `json:"service"`
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	Port    uint16     `json:"port,omitempty"` // where it listens; left out: at the packet's own port
	// State is up, starting, standby (a backup that is not needed), draining (older flows are left to
	// it), drained, failing (connections of clients to it fail; older flows are left to it), down, out
	// (the configuration says that it is down), disabled or removed (from the configuration; older
	// flows are left).
	State     string  `json:"state"`
	Why       string  `json:"why,omitempty"` // it is not up: "check http: connection refused"
	Weight    int     `json:"weight"`        // of the configuration, or set by hand
	Effective int     `json:"effective"`     // what it has now, after health and the start of slow ones
	Share     float64 `json:"share"`         // 0..1 of the slots, whose new flows it gets
	Leaving   float64 `json:"leaving"`       // 0..1 of the slots, of which it keeps older flows alone
	Flows     int     `json:"flows"`         // that are remembered because they are elsewhere than their slot says
	Hop       *Hop    `json:"hop,omitempty"` // left out: the way there is not known
	// Connections are those of all directors, as far as this one knows; left out where flows at rest are
	// not remembered. MaxConn is how many it may have; left out: any number.
	Connections *int `json:"connections,omitempty"`
	MaxConn     int  `json:"maxconn,omitempty"`
}

// A Hop is the way to a backend.
type Hop struct {
	Interface string     `json:"interface"`
	MAC       string     `json:"mac"`    // the backend's, or that of the gateway before it
	Source    netip.Addr `json:"source"` // our address towards it
	MTU       int        `json:"mtu"`    // bytes of an IP packet
}

// A BackendRequest changes what operators decide about a backend. The decision is kept by all
// directors, across restarts. Exactly one of Drain, Disable, Weight, ResetWeight, MaxConn and ResetMaxConn
// is set.
type BackendRequest struct {
	Service     string `json:"service"`
	Backend     string `json:"backend"`
	Drain       *bool  `json:"drain,omitempty"`
	Disable     *bool  `json:"disable,omitempty"`
	Weight      *int   `json:"weight,omitempty"` // 0..lb.MaxWeight, instead of the configuration's
	ResetWeight bool   `json:"reset_weight,omitempty"`
	// 0..lb.MaxConn connections, instead of the configuration's; 0 is any number
	MaxConn      *int `json:"maxconn,omitempty"`
	ResetMaxConn bool `json:"reset_maxconn,omitempty"`
	Force        bool `json:"force,omitempty"` // take new flows from the last one, too
}

func (r *BackendRequest) check() error {
	set := 0
	for _, is := range []bool{r.Drain != nil, r.Disable != nil, r.Weight != nil, r.ResetWeight, r.MaxConn != nil, r.ResetMaxConn} {
		if is {
			set++
		}
	}
	switch {
	case r.Service == "" || r.Backend == "":
		return errors.New("service or backend: missing")
	case set != 1:
		return errors.New("want exactly one of drain, disable, weight, reset_weight, maxconn and reset_maxconn")
	case r.Weight != nil && (*r.Weight < 0 || *r.Weight > lb.MaxWeight):
		return fmt.Errorf("weight: %d is not in 0..%d", *r.Weight, lb.MaxWeight)
	case r.MaxConn != nil && (*r.MaxConn < 0 || *r.MaxConn > lb.MaxConn):
		return fmt.Errorf("maxconn: %d is not in 0..%d", *r.MaxConn, lb.MaxConn)
	}
	return nil
}

// Ends says whether the backend would take no new flows any more.
func (r *BackendRequest) Ends() bool {
	return r.Drain != nil && *r.Drain || r.Disable != nil && *r.Disable || r.Weight != nil && *r.Weight == 0
}

// ErrLastBackend refuses what would leave nobody to take a service's new flows.
var ErrLastBackend = &Error{
	Code:    http.StatusConflict,
	Message: "no other backend takes new flows: taking the last one out needs --force",
}

func (d Daemon) backends(w http.ResponseWriter, r *http.Request) error {
	var request BackendRequest
	if err := read(w, r, &request); err != nil {
		return err
	}
	if err := request.check(); err != nil {
		return &Error{Code: http.StatusBadRequest, Message: err.Error()}
	}
	if err := d.Backends(r.Context(), request); err != nil {
		return err
	}
	return writeJSON(w, struct{}{})
}

// AdminBackend asks for a change of what operators decide about a backend.
func (c *Client) AdminBackend(ctx context.Context, request BackendRequest) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	_, err = c.get(ctx, http.MethodPost, "/v1/backends", body)
	return err
}
