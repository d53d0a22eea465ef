package probe

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"

	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/program"
)

func tryExec(ctx context.Context, target netip.AddrPort, spec *Spec) (health.Result, error) {
	check := program.Program{
		Command: spec.Exec.Command,
		Env:     []string{"LB_ADDRESS=" + target.Addr().String(), fmt.Sprintf("LB_PORT=%d", target.Port())},
	}
	said, err := check.Run(ctx)
	if err != nil {
		return failed("%s", suffixed(err.Error(), said))
	}
	return found("%s", cmp.Or(said, "exit status 0"))
}

func suffixed(text, more string) string {
	if more == "" {
		return text
	}
	return text + ": " + more
}
