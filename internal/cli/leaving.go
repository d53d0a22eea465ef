package cli

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
)

// A leaving is a frame as it goes out.
type leaving struct {
	Interface      string   `json:"interface,omitempty"` // "" where the routes decide it
	SourceMAC      string   `json:"source_mac"`
	DestinationMAC string   `json:"destination_mac"`
	Packets        []packet `json:"packets"` // the outermost first: others are what a tunnel carries
}

// A packet is one IP header and the ports behind it.
type packet struct {
	Protocol    string `json:"protocol"` // "tcp", or of what carries another one "ipv4 tunnel", "ipv6 tunnel", "gue"
	Source      string `json:"source"`
	Destination string `json:"destination"`
	TTL         uint8  `json:"ttl"` // or hop limit
}

const (
	protoIPv4 = 4 // IANA's names for packets in packets
	protoIPv6 = 41
	guePort   = 6080
	udpHeader = 8
	gueHeader = 4 // of version 0, without options
)

func leavingFrame(data []byte, iface string) *leaving {
	l := &leaving{Interface: iface, SourceMAC: net.HardwareAddr(data[6:12]).String(), DestinationMAC: net.HardwareAddr(data[:6]).String()}
	ethertype := binary.BigEndian.Uint16(data[12:])
	data = data[14:]
	for (ethertype == etherVLAN || ethertype == etherQinQ) && len(data) >= 4 {
		ethertype = binary.BigEndian.Uint16(data[2:])
		data = data[4:]
	}
	if ethertype == etherIPv4 || ethertype == etherIPv6 {
		l.Packets = packets(data)
	}
	return l
}

// packets are a packet and what it carries, up to what is no IP packet any more.
func packets(data []byte) []packet {
	var all []packet
	for len(data) > 0 {
		var p packet
		var d decoded
		var protocol byte
		switch version := data[0] >> 4; {
		case version == 4 && len(data) >= 20:
			d, p.TTL, protocol = decodeIPv4(data), data[8], data[9]
			data = data[min(int(data[0]&0xf)*4, len(data)):]
		case version == 6 && len(data) >= 40:
			d, p.TTL, protocol = decodeIPv6(data), data[7], data[6]
			data = data[40:]
		default:
			return all
		}
		p.Protocol, p.Source, p.Destination = d.protocol, d.source, d.destination
		switch {
		case protocol == protoIPv4:
			p.Protocol = "ipv4 tunnel"
		case protocol == protoIPv6:
			p.Protocol = "ipv6 tunnel"
		case protocol == protoUDP && len(data) > udpHeader+gueHeader && binary.BigEndian.Uint16(data[2:]) == guePort:
			p.Protocol, data = "gue", data[udpHeader+gueHeader:]
		default:
			data = nil
		}
		all = append(all, p)
	}
	return all
}

// text says what leaves, as one line.
func (l *leaving) text(size int) string {
	to := l.DestinationMAC
	if l.Interface != "" {
		to += " on " + l.Interface
	}
	var carried []string
	for _, p := range l.Packets {
		carried = append(carried, fmt.Sprintf("%s %s -> %s, ttl %d", p.Protocol, p.Source, p.Destination, p.TTL))
	}
	return fmt.Sprintf("%d bytes to %s: %s", size, to, strings.Join(carried, ", around "))
}
