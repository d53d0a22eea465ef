package passage

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/nettest"
)

// IPv6 addresses begin to be taken a little after they were added, and what came meanwhile is lost.
func TestAnAddressThatIsHeldIsTakenAtOnce(t *testing.T) {
	host := nettest.Host(t, nettest.New(t), "h")
	err := host.Do(func() error {
		side, err := openInside()
		if err != nil {
			return err
		}
		defer side.close()
		last := netip.MustParseAddr("2001:db8::1")
		for range 200 {
			last = last.Next()
			if err := side.hold(last); err != nil {
				return err
			}
			err := side.enter(func() error {
				routes, err := netlink.RouteGet(last.AsSlice())
				if err == nil && (len(routes) != 1 || routes[0].Type != unix.RTN_LOCAL) {
					t.Errorf("%s: %+v", last, routes)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAPassageThatBreaksIsOpenedAgain(t *testing.T) {
	host := nettest.Host(t, nettest.New(t), "h")
	p := New(slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- host.Do(func() error { return p.Run(ctx) }) }()
	within, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	first, _, err := p.await(within)
	if err != nil {
		t.Fatal(err)
	}
	first.close()
	nettest.Eventually(t, time.Minute, func() error {
		second, _, err := p.await(within)
		if err == nil && second == first {
			err = errors.New("still the old one")
		}
		return err
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
