package control

import "net/http"

// A KeysRequest asks for a rotation of the cluster's key.
type KeysRequest struct {
	Back bool `json:"back,omitempty"` // to the key that this node writes with, from a rotation that did not end
}

// A KeyRotation says how far a rotation of the cluster's key got.
type KeyRotation struct {
	Key   string      `json:"key"`   // the name of the key that shall be the only one; empty: nothing was begun
	Done  bool        `json:"done"`  // it is, on all nodes; otherwise the old key stays
	Nodes []KeyHolder `json:"nodes"` // by name
}

// A KeyHolder is how far a node is with a new key.
type KeyHolder struct {
	Node string `json:"node"`
	Step string `json:"step"`          // unknown, missing, added (it can read it), used (it writes with it) or alone
	Why  string `json:"why,omitempty"` // it did not get further: "down", or what it answered
}

func (d Daemon) keys(w http.ResponseWriter, r *http.Request) error {
	if !trusted(r) {
		return &Error{Code: http.StatusForbidden, Message: "only root may change the key of the cluster"}
	}
	var request KeysRequest
	if err := read(w, r, &request); err != nil {
		return err
	}
	rotation, err := d.Keys(r.Context(), request)
	if err != nil {
		return err
	}
	rotation.Nodes = list(rotation.Nodes)
	return writeJSON(w, rotation)
}
