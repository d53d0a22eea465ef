package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// A director has its clients and its router on the interface that frames arrive on. Its backend is
// one: how many there are costs cache misses, which nothing here counts. The kernel reaches it by a
// dummy device, the cheapest way out there is; XDP sends back to where frames come from, the
// cheapest way that XDP has.
const (
	sender      = "out0"
	backendPort = 8443 // of NAT
	manyFlows   = clientPorts
	newFlows    = 1 << 24 // more than ever come: each frame opens a connection
)

var (
	receiverMAC = []byte{0x02, 0, 0, 0, 0, 0x01}
	backendMAC  = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x15}

	clientAddr  = netip.MustParseAddr("198.18.0.7") // RFC 2544
	newcomer    = netip.MustParseAddr("198.19.0.0")
	backendAddr = netip.MustParseAddr("203.0.113.21")
)

// TCP's flags.
const (
	flagSYN = 0x02
	flagACK = 0x10
)

// The segments of a connection. The director of direct routing never sees the answer.
func opening(client netip.Addr) segment {
	return segment{from: netip.AddrPortFrom(client, firstClientPort), to: vipPort(), flags: flagSYN, sequence: 1000}
}

func answer() segment {
	return segment{
		from: netip.AddrPortFrom(backendAddr, backendPort), to: netip.AddrPortFrom(clientAddr, firstClientPort),
		flags: flagSYN | flagACK, sequence: 5000, answer: 1001, reply: true,
	}
}

func established() segment {
	s := opening(clientAddr)
	s.flags, s.sequence, s.answer = flagACK, 1001, 5001
	return s
}

func vipPort() netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(vip), port) }

// newDirector adds to the namespace, which the calling thread is in, what forwarding needs.
func (ns *namespace) newDirector() error {
	for file, value := range map[string]string{
		"ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/" + receiver + "/rp_filter": "0",
		// What IPv6 says by itself would be counted.
		"ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1",
	} {
		if err := os.WriteFile("/proc/sys/net/"+file, []byte(value), 0); err != nil {
			return err
		}
	}
	rx, err := netlink.LinkByName(receiver)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetHardwareAddr(rx, receiverMAC); err != nil {
		return fmt.Errorf("set the MAC of %s: %w", receiver, err)
	}
	dummy := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: sender}}
	if err := netlink.LinkAdd(dummy); err != nil {
		return fmt.Errorf("add %s: %w", sender, err)
	}
	if err := netlink.LinkSetUp(dummy); err != nil {
		return fmt.Errorf("set %s up: %w", sender, err)
	}
	router := net.IPv4(192, 0, 2, 1)
	for _, step := range []func() error{
		func() error { return addAddr(rx, "192.0.2.2/24") },
		func() error { return addAddr(dummy, "203.0.113.2/24") },
		func() error {
			return netlink.NeighAdd(&netlink.Neigh{
				LinkIndex: rx.Attrs().Index, State: netlink.NUD_PERMANENT, IP: router, HardwareAddr: backendMAC,
			})
		},
		func() error { return netlink.RouteAdd(&netlink.Route{LinkIndex: rx.Attrs().Index, Gw: router}) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("set up a director: %w", err)
		}
	}
	return ns.countAtPeer()
}

func addAddr(on netlink.Link, text string) error {
	addr, err := netlink.ParseAddr(text)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(on, addr)
}

// countAtPeer drops and counts what comes out at the other end of the pair, and makes it take
// frames from XDP at all.
func (ns *namespace) countAtPeer() error {
	counter, err := newCounter()
	if err != nil {
		return err
	}
	program, err := load(append(count(counter), asm.Mov.Imm(asm.R0, xdpDropped), asm.Return()))
	if err != nil {
		return fmt.Errorf("load the counter: %w", err)
	}
	tx, err := netlink.LinkByName("tx0")
	if err != nil {
		return err
	}
	ns.returned = counter
	ns.peer, err = link.AttachXDP(link.XDPOptions{Program: program, Interface: tx.Attrs().Index, Flags: link.XDPDriverMode})
	return err
}

// forwarded counts the frames that left the current namespace's director.
func (ns *namespace) forwarded() (int, error) {
	var returned uint32
	if err := ns.returned.Lookup(uint32(0), &returned); err != nil {
		return 0, err
	}
	out, err := netlink.LinkByName(sender)
	if err != nil {
		return 0, err
	}
	return int(returned) + int(out.Attrs().Statistics.TxPackets), nil
}

// routes takes the VIP away, so that the kernel forwards by its routes alone.
func routes(*namespace) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	out, err := netlink.LinkByName(sender)
	if err != nil {
		return err
	}
	address := &net.IPNet{IP: net.ParseIP(vip), Mask: net.CIDRMask(32, 32)}
	if err := netlink.AddrDel(lo, &netlink.Addr{IPNet: address}); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: out.Attrs().Index, Dst: address, Gw: backendAddr.AsSlice()})
}

// lruObject is where run.sh puts what it compiles.
const lruObject = "/lru.o"

// lru is the plain balancer of bpf/lru.bpf.c.
func lru(translates bool) func(*namespace) (*ebpf.Program, error) {
	return func(*namespace) (*ebpf.Program, error) {
		spec, err := ebpf.LoadCollectionSpec(lruObject)
		if err != nil {
			return nil, err
		}
		if translates {
			if err := spec.Variables["translates"].Set(uint8(1)); err != nil {
				return nil, err
			}
		}
		c, err := ebpf.NewCollection(spec)
		if err != nil {
			return nil, err
		}
		vipKey := append(netip.MustParseAddr(vip).AsSlice(), port>>8, port&0xff, 6, 0)
		server := append(backendAddr.AsSlice(), backendPort>>8, backendPort&0xff)
		server = append(append(append(server, backendMAC...), receiverMAC...), 0, 0)
		if err := c.Maps["vips"].Put(vipKey, uint32(0)); err != nil {
			return nil, err
		}
		if err := c.Maps["servers"].Put(uint32(0), server); err != nil {
			return nil, err
		}
		return c.Programs["lru"], nil // all of the ring is server 0 by itself
	}
}
