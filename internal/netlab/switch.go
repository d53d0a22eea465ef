package netlab

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
)

// bridgeName is the interface that makes a namespace a switch.
const bridgeName = "br0"

// A Switch is a namespace with a bridge and nothing else: it has no addresses and sends nothing.
type Switch struct {
	Host *Host // the namespace; its interfaces are the ports
}

// SwitchOptions say how a switch behaves; the zero value floods multicast frames to every port.
type SwitchOptions struct {
	Snooping bool // learn from IGMP and MLD reports where multicast frames have to go
}

// Switch makes a switch without cables.
func (l *Lab) Switch(name string, opts SwitchOptions) (*Switch, error) {
	h, err := l.Host(name)
	if err != nil {
		return nil, err
	}
	// A switch that speaks IPv6 would join groups and be seen by its own snooping.
	for _, conf := range []string{"all", "default"} {
		if err := h.SetSysctl("net.ipv6.conf."+conf+".disable_ipv6", "1"); err != nil {
			return nil, err
		}
	}
	err = h.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = bridgeName
		return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &opts.Snooping})
	})
	if err != nil {
		return nil, fmt.Errorf("switch %s: add bridge: %w", name, err)
	}
	return &Switch{Host: h}, h.Up(bridgeName)
}

// LinkOptions describe a cable; the zero value is a plain one.
type LinkOptions struct {
	MAC net.HardwareAddr // of the host's end; random if nil
	MTU int              // of both ends; 1500 if 0
	// SwitchXDP runs a program that passes everything on the switch's end: without one there,
	// what a native XDP program on the host's end transmits (XDP_TX) is lost.
	SwitchXDP bool
}

// Connect puts a cable between a host and a switch and waits until it carries frames. The host's
// end is called ifname, the port <host>-<ifname>. Both ends compute checksums in software, as a
// frame that XDP sends or redirects leaves without anybody completing them.
func (l *Lab) Connect(h *Host, ifname string, sw *Switch, opts LinkOptions) error {
	if err := connect(h, ifname, sw, portOf(h, ifname), opts); err != nil {
		return fmt.Errorf("connect %s of host %s to switch %s: %w", ifname, h.Name, sw.Host.Name, err)
	}
	return nil
}

func portOf(h *Host, ifname string) string { return h.Name + "-" + ifname }

func connect(h *Host, ifname string, sw *Switch, port string, opts LinkOptions) error {
	err := h.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr, attrs.MTU = ifname, opts.MAC, opts.MTU
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs:     attrs,
			PeerName:      port,
			PeerMTU:       uint32(opts.MTU),
			PeerNamespace: netlink.NsFd(sw.Host.netns.Fd()),
		})
	})
	if err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	err = sw.Host.onLink(port, "plug in", func(link netlink.Link) error {
		bridge, err := netlink.LinkByName(bridgeName)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(link, bridge); err != nil {
			return err
		}
		if !opts.SwitchXDP {
			return nil
		}
		return attachPass(link)
	})
	if err != nil {
		return err
	}
	for _, end := range []struct {
		host   *Host
		ifname string
	}{{sw.Host, port}, {h, ifname}} {
		if err := end.host.Do(func() error { return disableTxChecksum(end.ifname) }); err != nil {
			return err
		}
		if err := end.host.Up(end.ifname); err != nil {
			return err
		}
	}
	return errors.Join(sw.Host.waitUp(port), h.waitUp(ifname))
}

// waitUp returns when the interface is up and its IPv6 addresses are no longer tentative.
func (h *Host) waitUp(ifname string) error {
	return h.onLink(ifname, "wait for carrier", func(link netlink.Link) error {
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			now, err := netlink.LinkByIndex(link.Attrs().Index)
			if err != nil {
				return err
			}
			tentative, err := hasTentative(now)
			if err != nil {
				return err
			}
			if now.Attrs().OperState == netlink.OperUp && !tentative {
				return nil
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("still %s after 5s", now.Attrs().OperState)
			}
		}
	})
}
