package daemon

import (
	"context"
	"net/http"

	"github.com/lbctl/lbctl/internal/control"
)

// errStatic refuses what only nodes that talk to each other can keep.
var errStatic = &control.Error{
	Code:    http.StatusConflict,
	Message: "the nodes are as the configuration says: drain and weight need cluster.membership in it",
}

// admin carries out what an operator decides about a node.
func (p *planner) admin(context.Context, control.AdminRequest) error { return errStatic }
