package cli

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/control"
)

func TestAMoveWaitsUntilTheVIPIsThere(t *testing.T) {
	vip := netip.MustParseAddr("192.0.2.80")
	var asked []control.MoveRequest
	looks := 0
	socket := fakeDaemon(t, control.Daemon{
		Move: func(_ context.Context, r control.MoveRequest) error {
			asked = append(asked, r)
			if r.Node == "n9" {
				return &control.Error{Code: http.StatusNotFound, Message: "node n9: no such node is known"}
			}
			return nil
		},
		Status: func(context.Context) (control.Status, error) {
			looks++
			owner := "n1"
			if looks > 2 {
				owner = "n2"
			}
			return control.Status{VIPs: []control.VIP{{Address: vip, Owner: owner}}}, nil
		},
	})
	for _, test := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"move 192.0.2.80 n2", exitOK, ""},
		{"move 192.0.2.80 --auto", exitOK, ""},
		{"move 192.0.2.80 n9", exitFailed, "node n9: no such node is known"},
		{"move 192.0.2.80 n3 --timeout 1ms", exitUnfinished, "not finished: 192.0.2.80 is not on n3 yet"},
		{"move 192.0.2.80", exitUsage, "want the name of a node, or --auto"},
		{"move 192.0.2.80 n2 --auto", exitUsage, "want the name of a node, or --auto"},
		{"move web n2", exitUsage, `VIP "web": want an address`},
	} {
		got := lbctl(t, nil, strings.Fields("vips "+test.args+" --socket "+socket)...)
		if got.Code != test.code || !strings.Contains(got.Stderr, test.stderr) {
			t.Errorf("lbctl vips %s: code %d, want %d; stderr %q, want %q", test.args, got.Code, test.code, got.Stderr, test.stderr)
		}
	}
	want := []control.MoveRequest{{VIP: vip, Node: "n2"}, {VIP: vip}, {VIP: vip, Node: "n9"}, {VIP: vip, Node: "n3"}}
	if diff := cmp.Diff(want, asked, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}
