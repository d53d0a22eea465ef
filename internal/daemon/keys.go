package daemon

import (
	"context"
	"errors"
	"net/http"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/member"
)

// rotateKeys gives the cluster another key.
func (p *planner) rotateKeys(ctx context.Context, request control.KeysRequest) (control.KeyRotation, error) {
	if p.member == nil {
		return control.KeyRotation{}, &control.Error{
			Code: http.StatusConflict, Message: "there is no key: the configuration has no cluster.membership",
		}
	}
	got, err := p.member.RotateKeys(ctx, request.Back)
	if _, conflict := errors.AsType[member.KeyConflict](err); conflict || errors.Is(err, member.ErrRotating) {
		return control.KeyRotation{}, &control.Error{Code: http.StatusConflict, Message: err.Error()}
	}
	if err != nil {
		return control.KeyRotation{}, err
	}
	answer := control.KeyRotation{Key: got.Key.String(), Done: got.Done}
	for _, h := range got.Nodes {
		answer.Nodes = append(answer.Nodes, control.KeyHolder{Node: h.Node, Step: string(h.Step), Why: h.Why})
	}
	if got.Done {
		p.events.add(control.Event{Kind: "config", Node: p.inForce().Node, What: "the cluster's only key is " + answer.Key, Why: "rotated by hand"})
	}
	return answer, nil
}

// reloadKeys takes over what somebody wrote to the key file.
func (p *planner) reloadKeys() error {
	if p.member == nil {
		return nil
	}
	return p.member.ReloadKeys()
}
