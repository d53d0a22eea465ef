package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What linux/ip_vs.h says, as far as it is used here.
const (
	ipvsVersion    = 1
	ipvsNewService = 1
	ipvsNewDest    = 5

	ipvsService = 1 // attributes of a command
	ipvsDest    = 2

	ipvsServiceFamily    = 1
	ipvsServiceProtocol  = 2
	ipvsServiceAddr      = 3
	ipvsServicePort      = 4
	ipvsServiceScheduler = 6
	ipvsServiceFlags     = 7
	ipvsServiceTimeout   = 8
	ipvsServiceNetmask   = 9

	ipvsDestAddr   = 1
	ipvsDestPort   = 2
	ipvsDestMethod = 3
	ipvsDestWeight = 4
	ipvsDestUpper  = 5
	ipvsDestLower  = 6
	ipvsDestFamily = 11

	ipvsMasquerade = 0
	ipvsDirect     = 3

	ipvsHashPort = 0x0010 // flag of the scheduler mh: the source port takes part
)

// ipvs is ipvsadm -A -t 192.0.2.80:443 -s mh -b mh-port, and one server by -g or -m.
func ipvs(method uint32) func(*namespace) error {
	return func(*namespace) error {
		family, err := netlink.GenlFamilyGet("IPVS")
		if err != nil {
			return fmt.Errorf("ipvs: %w", err)
		}
		server := netip.AddrPortFrom(backendAddr, port)
		if method == ipvsMasquerade {
			server = netip.AddrPortFrom(backendAddr, backendPort)
		}
		service := nl.NewRtAttr(unix.NLA_F_NESTED|ipvsService, nil)
		service.AddRtAttr(ipvsServiceFamily, nl.Uint16Attr(unix.AF_INET))
		service.AddRtAttr(ipvsServiceProtocol, nl.Uint16Attr(unix.IPPROTO_TCP))
		service.AddRtAttr(ipvsServiceAddr, ipvsAddr(vipPort().Addr()))
		service.AddRtAttr(ipvsServicePort, binary.BigEndian.AppendUint16(nil, port))
		service.AddRtAttr(ipvsServiceScheduler, nl.ZeroTerminated("mh"))
		service.AddRtAttr(ipvsServiceFlags, append(nl.Uint32Attr(ipvsHashPort), 0xff, 0xff, 0xff, 0xff)) // and a mask
		service.AddRtAttr(ipvsServiceTimeout, nl.Uint32Attr(0))
		service.AddRtAttr(ipvsServiceNetmask, nl.Uint32Attr(0xffffffff))
		if err := ipvsCommand(family.ID, ipvsNewService, service); err != nil {
			return fmt.Errorf("ipvs: add the service: %w", err)
		}
		dest := nl.NewRtAttr(unix.NLA_F_NESTED|ipvsDest, nil)
		dest.AddRtAttr(ipvsDestAddr, ipvsAddr(server.Addr()))
		dest.AddRtAttr(ipvsDestPort, binary.BigEndian.AppendUint16(nil, server.Port()))
		dest.AddRtAttr(ipvsDestMethod, nl.Uint32Attr(method))
		dest.AddRtAttr(ipvsDestWeight, nl.Uint32Attr(1))
		dest.AddRtAttr(ipvsDestUpper, nl.Uint32Attr(0))
		dest.AddRtAttr(ipvsDestLower, nl.Uint32Attr(0))
		dest.AddRtAttr(ipvsDestFamily, nl.Uint16Attr(unix.AF_INET))
		if err := ipvsCommand(family.ID, ipvsNewDest, service, dest); err != nil {
			return fmt.Errorf("ipvs: add the server: %w", err)
		}
		return nil
	}
}

func ipvsCommand(family uint16, command uint8, attributes ...*nl.RtAttr) error {
	request := nl.NewNetlinkRequest(int(family), unix.NLM_F_ACK)
	request.AddData(&nl.Genlmsg{Command: command, Version: ipvsVersion})
	for _, a := range attributes {
		request.AddData(a)
	}
	_, err := request.Execute(unix.NETLINK_GENERIC, 0)
	return err
}

// ipvsAddr is a union nf_inet_addr.
func ipvsAddr(addr netip.Addr) []byte {
	return append(addr.AsSlice(), make([]byte, 12)...)
}
