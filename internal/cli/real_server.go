package cli

import (
	"fmt"
	"net/netip"

	"github.com/lbctl/lbctl/internal/control"
)

// realServerTables shows what a backend takes, and what came out of tunnels.
func realServerTables(s *screen, server *control.RealServer) {
	s.table([]string{"VIP"}, rows(server.VIPs, func(a netip.Addr) []string { return []string{a.String()} }))
	if len(server.Directors) == 0 {
		return
	}
	s.line("")
	s.table([]string{"DIRECTOR"}, rows(server.Directors, func(a netip.Addr) []string { return []string{a.String()} }))
	s.line("")
	s.table([]string{"TUNNEL", "VERDICT", " PACKETS", " BYTES"}, rows(server.Tunnels, func(c control.TunnelCount) []string {
		return []string{c.Reason, c.Verdict, fmt.Sprint(c.Packets), size(c.Bytes)}
	}))
}
