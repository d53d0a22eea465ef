package doctor

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// answerTime is how long an answer on the link may take.
const answerTime = 300 * time.Millisecond

// ask sends an ARP request for a VIP, to all or to one machine, and says whether anybody claimed it.
func (d Director) ask(ctx context.Context, vip VIP, to net.HardwareAddr) (claimed bool, err error) {
	before, err := d.Claims()
	if err != nil {
		return false, err
	}
	if err := request(vip, to); err != nil {
		return false, err
	}
	for deadline := time.Now().Add(answerTime); time.Now().Before(deadline); {
		now, err := d.Claims()
		if err != nil {
			return false, err
		}
		if now[vip.Addr] > before[vip.Addr] {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return false, nil
}

// guilty asks each backend alone, as far as its MAC is known.
func (d Director) guilty(ctx context.Context, vip VIP) (string, error) {
	ifi, err := net.InterfaceByName(vip.Interface)
	if err != nil {
		return "", err
	}
	neighbours, err := netlink.NeighList(ifi.Index, netlink.FAMILY_ALL)
	if err != nil {
		return "", fmt.Errorf("list neighbours: %w", err)
	}
	asked := make(map[string]bool)
	for _, t := range d.Backends {
		for _, n := range neighbours {
			mac := n.HardwareAddr.String()
			if !n.IP.Equal(t.Addr.AsSlice()) || len(n.HardwareAddr) != 6 || asked[mac] {
				continue
			}
			asked[mac] = true
			claimed, err := d.ask(ctx, vip, n.HardwareAddr)
			if err != nil {
				return "", err
			}
			if claimed {
				return fmt.Sprintf("backend %s (%s, %s)", t.subject(), t.Addr, mac), nil
			}
		}
	}
	return "somebody on the link of " + vip.Interface, nil
}

// request sends one ARP request, RFC 826.
func request(vip VIP, to net.HardwareAddr) error {
	ifi, err := net.InterfaceByName(vip.Interface)
	if err != nil {
		return err
	}
	sender, err := ownIPv4(ifi, vip.Addr)
	if err != nil {
		return err
	}
	if to == nil {
		to = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	}
	frame := append(append([]byte{}, to...), ifi.HardwareAddr...)
	frame = binary.BigEndian.AppendUint16(frame, unix.ETH_P_ARP)
	frame = append(frame, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, a request
	frame = append(append(frame, ifi.HardwareAddr...), sender.AsSlice()...)
	frame = append(append(frame, make([]byte, 6)...), vip.Addr.AsSlice()...)
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_LOOP, nil) // receives nothing that there is
	if err != nil {
		return fmt.Errorf("open a socket on %s: %w", ifi.Name, err)
	}
	defer conn.Close()
	_, err = conn.WriteTo(frame, &packet.Addr{HardwareAddr: to})
	return err
}

// ownIPv4 is an address of the interface that answers can be sent to.
func ownIPv4(ifi *net.Interface, vip netip.Addr) (netip.Addr, error) {
	addrs, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() && prefix.Addr() != vip {
			return prefix.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("interface %s has no IPv4 address to ask with", ifi.Name)
}
