package cli

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
)

func TestFlowsSayWhyTheyAreRemembered(t *testing.T) {
	flow := func(service, client string, slot int, current bool, mark lb.SlotMark) datapath.Exception {
		return datapath.Exception{
			Service: service, Remote: netip.MustParseAddrPort(client), Local: netip.MustParseAddrPort("192.0.2.80:443"), Protocol: lb.ProtocolTCP,
			Slot: slot, Addr: netip.MustParseAddr("192.0.2.101"), Current: current, Mark: mark, Silent: 1500 * time.Millisecond,
		}
	}
	noted := []datapath.Exception{
		flow("web", "198.51.100.7:40000", 9, true, lb.SlotNoting),
		flow("web", "198.51.100.7:40001", 7, false, lb.SlotMoving),
		flow("mail", "198.51.100.7:40002", 9, true, lb.SlotMoving),
		flow("web", "198.51.100.7:40000", 7, false, lb.SlotExceptions),
		flow("web", "198.51.100.8:40000", 9, true, 0),
	}
	screen := &screen{}
	flowsTable(screen, flowLines(noted, ""))
	golden(t, "flows-table", screen.text.String())
	var text bytes.Buffer
	if err := writeJSON(&text, flowLines(noted, "mail")); err != nil {
		t.Fatal(err)
	}
	golden(t, "flows-json", text.String())
	full := flow("web", "198.51.100.9:40000", 9, true, 0)
	full.Source = 33000
	for over, want := range map[bool]string{
		false: "full NAT: it leaves from port 33000", true: "full NAT: it ended, and port 33000 is nobody's for a while",
	} {
		full.Over = over
		if got := flowLines([]datapath.Exception{full}, "")[0].Why; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if diff := cmp.Diff([]flowLine{}, flowLines(nil, "")); diff != "" {
		t.Errorf("none: -want +got:\n%s", diff)
	}
}
