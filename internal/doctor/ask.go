package doctor

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// answerTime is how long an answer on the link may take.
const answerTime = 300 * time.Millisecond

// ask asks on the link who has a VIP, all or one machine, and says whether anybody claimed it.
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

// request asks once who has a VIP.
func request(vip VIP, to net.HardwareAddr) error {
	ifi, err := net.InterfaceByName(vip.Interface)
	if err != nil {
		return err
	}
	sender, err := ownAddress(ifi, vip.Addr)
	if err != nil {
		return err
	}
	frame := arpRequest(ifi.HardwareAddr, to, sender, vip.Addr)
	if vip.Addr.Is6() {
		frame = solicitation(ifi.HardwareAddr, to, sender, vip.Addr)
	}
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_LOOP, nil) // receives nothing that there is
	if err != nil {
		return fmt.Errorf("open a socket on %s: %w", ifi.Name, err)
	}
	defer conn.Close()
	_, err = conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
	return err
}

func ethernet(to, from net.HardwareAddr, kind uint16) []byte {
	return binary.BigEndian.AppendUint16(slices.Concat(to, from), kind)
}

// arpRequest is that of RFC 826; without a receiver, to all.
func arpRequest(own, to net.HardwareAddr, sender, target netip.Addr) []byte {
	if to == nil {
		to = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	}
	frame := append(ethernet(to, own, unix.ETH_P_ARP), 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, a request
	return slices.Concat(frame, own, sender.AsSlice(), make([]byte, 6), target.AsSlice())
}

// solicitation is that of RFC 4861, 4.3, to the group of those who may have the address.
func solicitation(own, to net.HardwareAddr, sender, target netip.Addr) []byte {
	a := target.As16()
	group := netip.MustParseAddr("ff02::1:ff00:0").As16()
	copy(group[13:], a[13:])
	if to == nil {
		to = net.HardwareAddr{0x33, 0x33, group[12], group[13], group[14], group[15]}
	}
	message := slices.Concat([]byte{135, 0, 0, 0, 0, 0, 0, 0}, a[:], []byte{1, 1}, own) // its source link-layer address
	pseudo := slices.Concat(sender.AsSlice(), group[:], []byte{0, 0, 0, byte(len(message)), 0, 0, 0, unix.IPPROTO_ICMPV6}, message)
	binary.BigEndian.PutUint16(message[2:], checksum(pseudo))
	header := []byte{0x60, 0, 0, 0, 0, byte(len(message)), unix.IPPROTO_ICMPV6, 255}
	return slices.Concat(ethernet(to, own, unix.ETH_P_IPV6), header, sender.AsSlice(), group[:], message)
}

// checksum is RFC 1071's, of an even number of bytes.
func checksum(data []byte) uint16 {
	var sum uint32
	for i := 0; i < len(data); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// ownAddress is an address of the interface, of the VIP's family, that answers can be sent to.
func ownAddress(ifi *net.Interface, vip netip.Addr) (netip.Addr, error) {
	addrs, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() == vip.Is4() && prefix.Addr() != vip {
			return prefix.Addr(), nil
		}
	}
	family := "IPv6"
	if vip.Is4() {
		family = "IPv4"
	}
	return netip.Addr{}, fmt.Errorf("interface %s has no %s address to ask with", ifi.Name, family)
}
