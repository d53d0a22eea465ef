package netmon_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/netmon"
	"github.com/lbctl/lbctl/internal/nettest"
)

// A watched host has its events in a channel.
type watched struct {
	*netlab.Host
	events chan netmon.Event
}

// watch starts netmon in a host with eth0 and waits for its first event.
func watch(t *testing.T) watched {
	t.Helper()
	lab := nettest.New(t)
	sw, err := lab.Switch("sw", netlab.SwitchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n := watched{nettest.Host(t, lab, "n1"), make(chan netmon.Event)}
	if err := lab.Connect(n.Host, "eth0", sw, netlab.LinkOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := n.Addr("eth0", netip.MustParsePrefix("192.0.2.1/24")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- n.Do(func() error {
			return netmon.Run(ctx, func(e netmon.Event) {
				select {
				case n.events <- e:
				case <-ctx.Done():
				}
			})
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	if diff := cmp.Diff(netmon.Event{Resync: true}, n.next(t)); diff != "" {
		t.Fatalf("first event (-want +got):\n%s", diff)
	}
	return n
}

func (n watched) next(t *testing.T) netmon.Event {
	t.Helper()
	select {
	case e := <-n.events:
		return e
	case <-time.After(5 * time.Second):
		t.Fatal("no event")
		return netmon.Event{}
	}
}

// silent fails if there is an event.
func (n watched) silent(t *testing.T, after string) {
	t.Helper()
	select {
	case e := <-n.events:
		t.Errorf("event after %s: %+v", after, e)
	case <-time.After(150 * time.Millisecond):
	}
}

// collect merges events until none comes for a while.
func (n watched) collect(t *testing.T) netmon.Event {
	t.Helper()
	all := n.next(t)
	for {
		select {
		case e := <-n.events:
			all.Links = merge(all.Links, e.Links)
			all.Addresses = merge(all.Addresses, e.Addresses)
			all.Neighbours = merge(all.Neighbours, e.Neighbours)
			all.Resync = all.Resync || e.Resync
		case <-time.After(150 * time.Millisecond):
			return all
		}
	}
}

func merge(a, b []string) []string {
	if len(b) > 0 {
		return b // one interface takes part in these tests
	}
	return a
}

func TestEventsNameWhatChanged(t *testing.T) {
	n := watch(t)
	for _, step := range []struct {
		name string
		do   func() error
		want netmon.Event
	}{
		{
			"address added", func() error { return n.Addr("eth0", netip.MustParsePrefix("192.0.2.80/32")) },
			netmon.Event{Addresses: []string{"eth0"}},
		},
		{
			"address removed", func() error { return n.DelAddr("eth0", netip.MustParsePrefix("192.0.2.80/32")) },
			netmon.Event{Addresses: []string{"eth0"}},
		},
		{
			"mac changed", func() error { return n.SetMAC("eth0", net.HardwareAddr{2, 0, 0, 0, 0, 7}) },
			netmon.Event{Links: []string{"eth0"}},
		},
		{
			"neighbour learnt", func() error {
				return n.Neighbour("eth0", netip.MustParseAddr("192.0.2.9"), net.HardwareAddr{2, 0, 0, 0, 0, 9})
			},
			netmon.Event{Neighbours: []string{"eth0"}},
		},
		{
			"neighbour moved", func() error {
				return n.Neighbour("eth0", netip.MustParseAddr("192.0.2.9"), net.HardwareAddr{2, 0, 0, 0, 0, 10})
			},
			netmon.Event{Neighbours: []string{"eth0"}},
		},
		{
			"link down", func() error { return n.Down("eth0") }, // IPv6 addresses go with it
			netmon.Event{Links: []string{"eth0"}, Addresses: []string{"eth0"}, Neighbours: []string{"eth0"}},
		},
		{
			"link up", func() error { return n.Up("eth0") },
			netmon.Event{Links: []string{"eth0"}, Addresses: []string{"eth0"}},
		},
	} {
		n.silent(t, "what came before: "+step.name)
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, n.collect(t)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

func TestARepetitionIsNoChange(t *testing.T) {
	n := watch(t)
	peer, mac := netip.MustParseAddr("192.0.2.9"), net.HardwareAddr{2, 0, 0, 0, 0, 9}
	if err := n.Neighbour("eth0", peer, mac); err != nil {
		t.Fatal(err)
	}
	n.collect(t)
	if err := n.Neighbour("eth0", peer, mac); err != nil {
		t.Fatal(err)
	}
	if err := n.Up("eth0"); err != nil {
		t.Fatal(err)
	}
	n.silent(t, "setting what is set")
}

func TestABurstIsOneEvent(t *testing.T) {
	n := watch(t)
	for i := range 20 {
		if err := n.Addr("eth0", netip.MustParsePrefix(fmt.Sprintf("198.51.100.%d/32", i))); err != nil {
			t.Fatal(err)
		}
	}
	n.next(t) // the first may be told before the others came, but not each of them
	events := 1
	for {
		select {
		case <-n.events:
			events++
			continue
		case <-time.After(150 * time.Millisecond):
		}
		break
	}
	if events > 5 {
		t.Errorf("%d events for 20 addresses", events)
	}
}

func TestLostMessagesMeanResync(t *testing.T) {
	n := watch(t)
	// The first of these blocks Run in its callback; the rest overruns the socket's buffer.
	prefix := netip.MustParsePrefix("198.51.100.1/32")
	for range 1500 {
		if err := n.Addr("eth0", prefix); err != nil {
			t.Fatal(err)
		}
		if err := n.DelAddr("eth0", prefix); err != nil {
			t.Fatal(err)
		}
	}
	nettest.Eventually(t, time.Minute, func() error {
		if e := n.next(t); !e.Resync {
			return fmt.Errorf("last event: %+v", e)
		}
		return nil
	})
	n.silent(t, "resync")
	if err := n.DelAddr("eth0", netip.MustParsePrefix("192.0.2.1/24")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(netmon.Event{Addresses: []string{"eth0"}}, n.next(t)); diff != "" {
		t.Errorf("after resync (-want +got):\n%s", diff)
	}
}
