package datapath_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/nettest"
)

// goesNear says whether a reply to a client, and one of full NAT, goes there without the kernel being asked, by
// what they leave marks of.
func (r *router) goesNear(to netip.Addr, mac net.HardwareAddr) error {
	return r.node.Do(func() error {
		for _, p := range []struct {
			frame []byte
			in    int
		}{{r.reply(to, 10), r.backends.Index}, {r.fullReply(to, 10), r.backends.Index - 1}} {
			r.routing.Used()
			out, err := r.summed.Run(p.frame, p.in)
			switch {
			case err != nil:
				return err
			case !bytes.Equal(out.Frame[:6], mac):
				return fmt.Errorf("a reply to %s went to %s, want %s", to, net.HardwareAddr(out.Frame[:6]), mac)
			case !slices.Contains(r.routing.Used(), to):
				return fmt.Errorf("the kernel was asked for %s", to)
			}
		}
		return nil
	})
}

func (r *router) eventuallyGoesNear(to netip.Addr, mac net.HardwareAddr) {
	r.t.Helper()
	nettest.Eventually(r.t, time.Minute, func() error { return r.goesNear(to, mac) })
}

func (r *router) eventuallyAsks(to netip.Addr, mac net.HardwareAddr) {
	r.t.Helper()
	nettest.Eventually(r.t, time.Minute, func() error {
		if r.goesNear(to, mac) == nil {
			return fmt.Errorf("a reply went to %s, %s, without the kernel", to, mac)
		}
		return nil
	})
}

// neighbour changes the kernel's entry, as an ARP packet does or somebody by hand.
func (r *router) neighbour(link int, addr netip.Addr, mac net.HardwareAddr, state int) {
	r.t.Helper()
	r.in(func() error {
		return netlink.NeighSet(&netlink.Neigh{LinkIndex: r.backends.Index - 1 + link, IP: addr.AsSlice(), HardwareAddr: mac, State: state})
	})
}

// A client on a link gets its replies as the kernel would send them, whatever becomes of its entry.
func TestRepliesGoToNeighboursAsTheKernelKnowsThem(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			r := newRouter(t, f)
			r.agree("at first", true)
			r.eventuallyGoesNear(f.onLink(0, 9), clientMAC)

			client, moved := f.onLink(0, 10), net.HardwareAddr{2, 0, 0, 0, 5, 5}
			r.neighbour(0, client, clientMAC, netlink.NUD_REACHABLE)
			r.agree("a new neighbour", true)
			r.eventuallyGoesNear(client, clientMAC)
			r.neighbour(0, client, moved, netlink.NUD_STALE)
			r.agree("it moved", true)
			r.eventuallyGoesNear(client, moved)
			r.neighbour(0, client, nil, netlink.NUD_FAILED)
			r.agree("it failed", true)
			r.eventuallyAsks(client, moved)
			r.neighbour(0, client, clientMAC, netlink.NUD_STALE)
			r.eventuallyGoesNear(client, clientMAC)

			r.in(func() error { return linkMTU("eth0", 1400) })
			r.agree("an MTU of a link", true)
			r.eventuallyGoesNear(client, clientMAC)
			r.in(func() error { return linkMTU("eth0", 1500) })

			r.neighbour(1, f.onLink(1, 9), moved, netlink.NUD_REACHABLE)
			r.neighbour(1, client, moved, netlink.NUD_REACHABLE) // which nobody is routed to by that link
			r.agree("neighbours on the backends' link", true)
			r.eventuallyGoesNear(f.onLink(1, 9), moved)
			r.eventuallyGoesNear(client, clientMAC)

			r.in(func() error {
				return netlink.NeighDel(&netlink.Neigh{LinkIndex: r.backends.Index - 1, IP: client.AsSlice()})
			})
			r.agree("it went", true)
			r.neighbour(0, client, clientMAC, netlink.NUD_REACHABLE)
			r.eventuallyGoesNear(client, clientMAC)

			one := netip.PrefixFrom(client, client.BitLen())
			r.replace(one, netlink.Route{Gw: r.gateway(2).AsSlice()})
			r.agree("a route to it by a gateway", true)
			r.eventuallyAsks(client, clientMAC)
			r.in(func() error {
				return netlink.RouteDel(&netlink.Route{Dst: &net.IPNet{IP: client.AsSlice(), Mask: net.CIDRMask(one.Bits(), one.Bits())}, Gw: r.gateway(2).AsSlice()})
			})
			r.agree("no such route", true)
			r.eventuallyGoesNear(client, clientMAC)
			r.must(r.node.Addr("lo", one))
			r.agree("its address is ours", true)
			r.eventuallyAsks(client, clientMAC)
		})
	}
}

// What nobody watches over any more is soon asked for.
func TestNeighboursOfOneThatHangsAreAskedFor(t *testing.T) {
	r := newRouter(t, v4)
	client, moved := v4.onLink(0, 9), net.HardwareAddr{2, 0, 0, 0, 5, 5}
	r.agree("at first", true)
	r.eventuallyGoesNear(client, clientMAC)
	r.hangs.Store(true)
	r.neighbour(0, client, moved, netlink.NUD_PERMANENT)
	r.agree("lbd hangs", false)
	r.eventuallyAsks(client, moved)
	r.hangs.Store(false)
	r.agree("lbd goes on", true)
	r.eventuallyGoesNear(client, moved)
}

// While neighbours come, go and move, a reply goes to whom it is for or waits; it never goes to another one.
func TestRepliesNeverGoToAnotherNeighbour(t *testing.T) {
	r := newRouter(t, v4)
	r.stop()
	hop := func(n uint32, turn byte) lb.RouteHop {
		mac := net.HardwareAddr{2, turn, 0, 0, 0, 0}
		binary.BigEndian.PutUint32(mac[2:], n)
		return lb.RouteHop{Index: r.backends.Index - 1, MAC: mac, Own: ownMAC, MTU: 1500}
	}
	client := func(n uint32) netip.Addr {
		return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	}
	const space, clients = 1 << 15, 12000 // more than there is room for
	random := rand.New(rand.NewPCG(3, 4))
	gave := make(chan error, 1)
	stop := make(chan struct{})
	var turns atomic.Int32
	go func() {
		for turn := byte(0); ; turn++ {
			routes := &lb.Routes{V4: lb.RouteTable{Forwards: map[int]bool{r.backends.Index: true}}, Near: make(map[netip.Addr]lb.RouteHop)}
			for range clients {
				n := random.Uint32N(space)
				routes.Near[client(n)] = hop(n, turn)
			}
			err := r.routing.Give(routes)
			turns.Add(1)
			select {
			case <-stop:
				gave <- err
				return
			default:
				if err != nil {
					gave <- err
					return
				}
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		if err := <-gave; err != nil {
			t.Error(err)
		}
	})
	near, end := 0, time.Now().Add(time.Minute)
	probe := rand.New(rand.NewPCG(5, 6))
	r.in(func() error {
		for sent := 0; sent < 20000 || near < 2000 || turns.Load() < 4; sent++ {
			if time.Now().After(end) {
				return fmt.Errorf("%d replies of %d went to neighbours, in %d turns: this says little", near, sent, turns.Load())
			}
			n := probe.Uint32N(space)
			out, err := r.summed.Run(r.reply(client(n), 10), r.backends.Index)
			if err != nil {
				return err
			}
			switch mac := out.Frame[:6]; {
			case bytes.Equal(mac, gatewayMACs[0]): // the kernel was asked
			case mac[0] == 2 && binary.BigEndian.Uint32(mac[2:]) == n:
				near++
			default:
				return fmt.Errorf("a reply to %s went to %x", client(n), mac)
			}
		}
		return nil
	})
}

// As many as there are in most networks nearly all find room.
func TestThereIsRoomForNeighbours(t *testing.T) {
	r := newRouter(t, v4)
	r.stop()
	routes := &lb.Routes{V4: lb.RouteTable{Forwards: map[int]bool{r.backends.Index: true}}, Near: make(map[netip.Addr]lb.RouteHop)}
	for n := range 4096 {
		routes.Near[netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})] = lb.RouteHop{Index: 1, MAC: clientMAC, Own: ownMAC, MTU: 1500}
	}
	r.must(r.routing.Keep(routes))
	r.in(func() error {
		for addr := range routes.Near {
			if _, err := r.summed.Run(r.reply(addr, 10), r.backends.Index); err != nil {
				return err
			}
		}
		return nil
	})
	if n := len(r.routing.Used()); n < len(routes.Near)*9/10 {
		t.Errorf("%d of %d neighbours have room", n, len(routes.Near))
	}
	if n := len(r.routing.Used()); n != 0 {
		t.Errorf("%d neighbours are used without a packet", n)
	}
}
