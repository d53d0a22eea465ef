package control

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
)

// A MoveRequest decides which node shall have a VIP that one node at a time announces. The decision is
// kept by all nodes, across restarts.
type MoveRequest struct {
	VIP  netip.Addr `json:"vip"`
	Node string     `json:"node"` // empty: as the configuration says
}

func (d Daemon) move(w http.ResponseWriter, r *http.Request) error {
	var request MoveRequest
	if err := read(w, r, &request); err != nil {
		return err
	}
	if !request.VIP.IsValid() {
		return &Error{Code: http.StatusBadRequest, Message: "vip: missing"}
	}
	if err := d.Move(r.Context(), request); err != nil {
		return err
	}
	return writeJSON(w, struct{}{})
}

// Move asks for a VIP to go to another node.
func (c *Client) Move(ctx context.Context, request MoveRequest) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	_, err = c.get(ctx, http.MethodPost, "/v1/vips", body)
	return err
}
