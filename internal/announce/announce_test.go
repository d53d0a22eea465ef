package announce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/packettest"
)

var (
	vip4 = netip.MustParseAddr("192.0.2.80")
	vip6 = netip.MustParseAddr("2001:db8::80")
	own  = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x11}
)

// A diary notes what an Announcer sends, and when.
type diary struct {
	begun time.Time
	lines []string
	err   error
	log   strings.Builder
}

// keep runs an Announcer that writes into a diary, within a bubble of synctest.
func keep(t *testing.T) (*Announcer, *diary) {
	d := &diary{begun: time.Now()}
	a := New(slog.New(slog.NewTextHandler(&d.log, &slog.HandlerOptions{Level: slog.LevelWarn})))
	a.send = func(v VIP) error {
		d.lines = append(d.lines, fmt.Sprint(v.Addr, " ", time.Since(d.begun)))
		return d.err
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return a, d
}

func (d *diary) want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(lines, d.lines); diff != "" {
		t.Errorf("announced (-want +got):\n%s", diff)
	}
	d.lines = nil
}

func TestWhatIsNewIsAnnouncedAtOnceAndAgainForSomeSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, d := keep(t)
		a.Set([]VIP{{Addr: vip4, Interface: "eth0"}})
		d.want(t, "192.0.2.80 0s")
		time.Sleep(3 * time.Second)
		a.Set([]VIP{{Addr: vip4, Interface: "eth0"}, {Addr: vip6, Interface: "eth0"}})
		d.want(t, "192.0.2.80 50ms", "192.0.2.80 200ms", "192.0.2.80 500ms", "192.0.2.80 1s", "192.0.2.80 2s", "2001:db8::80 3s")
		time.Sleep(2 * time.Minute)
		d.want(t,
			"2001:db8::80 3.05s", "2001:db8::80 3.2s", "2001:db8::80 3.5s", "192.0.2.80 4s", "2001:db8::80 4s",
			"2001:db8::80 5s", "2001:db8::80 7s", "192.0.2.80 8s", "2001:db8::80 11s",
			"192.0.2.80 1m8s", "2001:db8::80 1m11s")
	})
}

func TestWhatAnotherMachineGotIsNotAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, d := keep(t)
		a.Set([]VIP{{Addr: vip4, Interface: "eth0"}})
		time.Sleep(60 * time.Millisecond)
		a.Set(nil)
		d.want(t, "192.0.2.80 0s", "192.0.2.80 50ms")
		a.Defend(vip4)
		time.Sleep(time.Hour)
		d.want(t)
		a.Set([]VIP{{Addr: vip4, Interface: "eth0"}})
		d.want(t, "192.0.2.80 1h0m0.06s")
		a.Set([]VIP{{Addr: vip4, Interface: "eth0", MAC: own}}) // now at another MAC
		d.want(t, "192.0.2.80 1h0m0.06s")
	})
}

func TestAClaimOfAnotherMachineIsAnsweredAtMostOnceInTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, d := keep(t)
		a.Set([]VIP{{Addr: vip4, Interface: "eth0"}})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		d.lines = nil
		for range 22 {
			a.Defend(vip4)
			time.Sleep(time.Second)
		}
		d.want(t, "192.0.2.80 10s", "192.0.2.80 20s", "192.0.2.80 30s")
	})
}

func TestAFailureIsLoggedOnceAndDoesNotEndTheAnnouncements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, d := keep(t)
		d.err = errors.New("interface is down")
		a.Set([]VIP{{Addr: vip4, Interface: "eth0"}})
		time.Sleep(300 * time.Millisecond)
		d.want(t, "192.0.2.80 0s", "192.0.2.80 50ms", "192.0.2.80 200ms")
		if got := strings.Count(d.log.String(), "an address is not announced"); got != 1 {
			t.Errorf("logged %d times:\n%s", got, &d.log)
		}
	})
}

func TestTheFramesAreThoseOfTheRFCs(t *testing.T) {
	broadcast := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for _, test := range []struct {
		addr netip.Addr
		want [][]byte
	}{
		{vip4, [][]byte{
			packettest.Pad(packettest.Frame(packettest.Ethernet{Dst: broadcast, Src: own},
				packettest.ARP{Operation: packettest.ARPRequest, SenderMAC: own, Sender: vip4, Target: vip4}), 60),
			packettest.Pad(packettest.Frame(packettest.Ethernet{Dst: broadcast, Src: own},
				packettest.ARP{Operation: packettest.ARPReply, SenderMAC: own, TargetMAC: broadcast, Sender: vip4, Target: vip4}), 60),
		}},
		{vip6, [][]byte{
			packettest.Frame(packettest.Ethernet{Dst: net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, Src: own},
				packettest.IPv6{Src: vip6, Dst: netip.MustParseAddr("ff02::1"), HopLimit: 255},
				packettest.Neighbor{Type: packettest.Advertisement, Flags: packettest.FlagOverride, Target: vip6},
				packettest.Option{Type: packettest.TargetLink, Data: own}),
		}},
	} {
		got, err := announcements(test.addr, own)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.addr, diff)
		}
	}
}
