package member

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/lb"
)

func TestFlowsOfAPeerAreHandedOn(t *testing.T) {
	var log bytes.Buffer
	var got [][]Flow
	m := &Member{opts: Options{
		Log: slog.New(slog.NewTextHandler(&log, nil)), Flows: func(flows []Flow) { got = append(got, flows) },
	}}
	want := []Flow{{
		Service: "web", Remote: netip.MustParseAddrPort("[2001:db8::7]:40000"), Local: netip.MustParseAddrPort("[2001:db8::80]:80"),
		Protocol: lb.ProtocolTCP, Slot: 65536, Backend: netip.MustParseAddr("192.0.2.21"), Port: 8080,
	}}
	body, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	m.received("n2", frame(kindFlows, body))
	m.received("n2", frame(kindFlows, body[1:]))
	if diff := cmp.Diff([][]Flow{want}, got, cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.Contains(log.String(), "a message was not understood") {
		t.Errorf("nothing was said of the other message: %s", &log)
	}
}
