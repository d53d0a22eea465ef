package datapath_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/packettest"
)

// A client, a director and a backend whose gateway it is, on two links. Nobody knows the client's
// MAC at first: the first reply waits in the stack, and no other does.
func TestClientsAreServedByNATFromTheFirstPacketOn(t *testing.T) {
	for _, mode := range []datapath.Mode{datapath.ModeNative, datapath.ModeGeneric} {
		for _, f := range families {
			t.Run(string(mode)+" "+f.name, func(t *testing.T) {
				s := newSite(t, "eth0")
				backend, hop := s.behind(f)
				d := s.open(mode)
				s.set(d, natState(f, hop))
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				s.echoTCP(ctx, backend, netip.AddrPortFrom(f.onLink(1, backendFar), webPort))
				s.echoUDP(ctx, backend, netip.AddrPortFrom(f.onLink(1, backendFar), dnsPort))

				vip := f.vip(vipNAT)
				connections := packettest.Scaled(t, 50)
				for i := range connections {
					s.talk(ctx, "tcp", netip.AddrPortFrom(vip, portWeb), bytes.Repeat([]byte{byte(i)}, 30_000))
				}
				s.talk(ctx, "udp", netip.AddrPortFrom(vip, portDNS), []byte("question"))
				counted := make(map[string]uint64)
				list, err := d.Counters()
				s.must(err)
				for _, c := range list {
					counted[c.Reason] += c.Packets
				}
				if counted["reply-held"] != 1 || counted["reply-redirected"] < uint64(2*connections) || counted["redirected"] < uint64(2*connections) {
					t.Errorf("%d replies waited, %d left, %d requests: want 1 and more than %d each",
						counted["reply-held"], counted["reply-redirected"], counted["redirected"], 2*connections)
				}
			})
		}
	}
}

// behind plugs a second link into the node, with a backend on it that has the node as its gateway.
func (s *site) behind(f family) (*netlab.Host, *lb.NextHop) {
	s.t.Helper()
	sw, err := s.lab.Switch("sw1", netlab.SwitchOptions{})
	s.must(err)
	backend := nettest.Host(s.t, s.lab, "backend")
	s.must(s.lab.Connect(s.node, "eth1", sw, netlab.LinkOptions{SwitchXDP: true}))
	s.must(s.lab.Connect(backend, "eth0", sw, netlab.LinkOptions{}))
	bits := map[family]int{v4: 25, v6: 64}[f]
	s.must(s.node.Addr("eth0", netip.PrefixFrom(f.onLink(0, 2), bits)))
	s.must(s.node.Addr("eth1", netip.PrefixFrom(f.onLink(1, 2), bits)))
	s.must(s.client.Addr("eth0", netip.PrefixFrom(f.onLink(0, 3), bits)))
	s.must(backend.Addr("eth0", netip.PrefixFrom(f.onLink(1, backendFar), bits)))
	s.must(s.node.Forward())
	s.must(backend.Route(netip.PrefixFrom(f.onLink(0, 0), bits).Masked(), f.onLink(1, 2)))
	s.must(s.client.Neighbour("eth0", f.vip(vipNAT), f.mac(vipNAT)))
	s.must(s.client.Route(netip.PrefixFrom(f.vip(vipNAT), f.vip(vipNAT).BitLen()), f.onLink(0, 2)))
	s.must(s.client.Neighbour("eth0", f.onLink(0, 2), f.mac(vipNAT)))
	mac, err := backend.MAC("eth0")
	s.must(err)
	return backend, &lb.NextHop{Interface: "eth1", MAC: mac, Source: f.onLink(1, 2), MTU: 1500}
}

// natState has a TCP and a UDP service with one backend.
func natState(f family, hop *lb.NextHop) *lb.State {
	state := &lb.State{
		Cluster: "nat",
		Seed:    worldSeed,
		Nodes:   []lb.Node{{Index: 0, Name: "n0", Weight: 100, Local: true}},
		Tables:  []*lb.Table{{Owners: slices.Repeat([]int16{0}, lb.Buckets)}},
		VIPs:    []lb.VIP{{Addr: f.vip(vipNAT), Interface: "eth0", MAC: f.mac(vipNAT)}},
	}
	for _, s := range []struct {
		protocol   lb.Protocol
		port, real uint16
	}{{lb.ProtocolTCP, portWeb, webPort}, {lb.ProtocolUDP, portDNS, dnsPort}} {
		state.Services = append(state.Services, lb.Service{
			Name: s.protocol.String(), Protocol: s.protocol, Ports: []lb.PortRange{{First: s.port, Last: s.port}},
			Hash: lb.HashSourcePort, Forward: lb.ForwardNAT, Choice: &lb.Choice{Current: make([]int16, lb.Slots)},
			Backends: []lb.Backend{{Name: "b", Addr: f.onLink(1, backendFar), Port: s.real, Hop: hop}},
		})
	}
	return state
}

// echoTCP sends everything back that comes in by connections.
func (s *site) echoTCP(ctx context.Context, on *netlab.Host, addr netip.AddrPort) {
	s.t.Helper()
	l, err := on.Listen(ctx, "tcp", addr.String())
	s.must(err)
	s.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

func (s *site) echoUDP(ctx context.Context, on *netlab.Host, addr netip.AddrPort) {
	s.t.Helper()
	c, err := on.ListenPacket(ctx, "udp", addr.String())
	s.must(err)
	s.t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
}

// talk sends a message from the client and expects it back.
func (s *site) talk(ctx context.Context, network string, to netip.AddrPort, message []byte) {
	s.t.Helper()
	c, err := s.client.Dial(ctx, network, to.String())
	s.must(err)
	defer c.Close()
	deadline, _ := ctx.Deadline()
	s.must(c.SetDeadline(deadline))
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(message)
		sent <- err
	}()
	got := make([]byte, len(message))
	_, err = io.ReadFull(c, got)
	s.must(errors.Join(err, <-sent))
	if !bytes.Equal(got, message) {
		s.must(fmt.Errorf("%s: another message came back", network))
	}
}
