package firewall

import (
	"cmp"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
)

// Want is all that the table follows from.
type Want struct {
	Masquerade []lb.Masquerade
	VIPs       []netip.Addr
	Replies    []Reply
}

// A Reply is what backends of NAT send to clients of a VIP. The datapath gives it the VIP for its source;
// what it leaves to the kernel, because it knows no way or nothing of it, must not get another one.
type Reply struct {
	Backend netip.Addr
	Ports   lb.PortRange // of UDP, that it comes from
}

// Of returns what a state asks for.
func Of(state *lb.State) Want {
	want := Want{Masquerade: state.Masquerade}
	if len(want.Masquerade) == 0 {
		return want
	}
	for i := range state.VIPs {
		want.VIPs = append(want.VIPs, state.VIPs[i].Addr)
	}
	for i := range state.Services {
		if s := &state.Services[i]; s.Forward == lb.ForwardNAT && s.Protocol == lb.ProtocolUDP {
			want.Replies = append(want.Replies, repliesOf(s)...)
		}
	}
	slices.SortFunc(want.Replies, func(a, b Reply) int {
		return cmp.Or(a.Backend.Compare(b.Backend), cmp.Compare(a.Ports.First, b.Ports.First), cmp.Compare(a.Ports.Last, b.Ports.Last))
	})
	want.Replies = slices.Compact(want.Replies)
	return want
}

func repliesOf(s *lb.Service) []Reply {
	var replies []Reply
	for i := range s.Backends {
		b := &s.Backends[i]
		if b.Port != 0 {
			replies = append(replies, Reply{b.Addr, lb.PortRange{First: b.Port, Last: b.Port}})
			continue
		}
		for _, ports := range s.Ports {
			replies = append(replies, Reply{b.Addr, ports})
		}
	}
	return replies
}

// A rule is what a packet has to be, and what happens to it then. Only the first packet of a connection
// that the kernel tracks meets rules; the others go as it did.
type rule []expr.Any

// rules are in the order in which they apply.
func (w Want) rules() []rule {
	if len(w.Masquerade) == 0 {
		return nil
	}
	// A connection that does not begin here has another source already: one of a VIP, or one of a gateway
	// that was before us.
	rules := []rule{join(protocol(unix.IPPROTO_TCP), noSYN(), leave())}
	for _, vip := range w.VIPs {
		if w.covers(vip) {
			rules = append(rules, join(source(netip.PrefixFrom(vip, vip.BitLen())), leave()))
		}
	}
	for _, r := range w.Replies {
		if w.covers(r.Backend) {
			rules = append(rules, join(source(netip.PrefixFrom(r.Backend, r.Backend.BitLen())),
				protocol(unix.IPPROTO_UDP), sourcePorts(r.Ports), leave()))
		}
	}
	for _, m := range w.Masquerade {
		for _, from := range m.From {
			rules = append(rules, join(source(from), leavesBy(m.Out), translate(m.To)))
		}
	}
	return rules
}

func (w Want) covers(a netip.Addr) bool {
	return slices.ContainsFunc(w.Masquerade, func(m lb.Masquerade) bool {
		return slices.ContainsFunc(m.From, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

func join(parts ...rule) rule { return slices.Concat(parts...) }

// register is the one that all comparisons use.
const register = unix.NFT_REG_1

func is(value []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: value}
}

func masked(mask, value []byte) rule {
	return rule{
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))},
		is(value),
	}
}

// source is any address of a prefix.
func source(from netip.Prefix) rule {
	family, offset := byte(unix.NFPROTO_IPV4), uint32(12) // of the address in its header
	if from.Addr().Is6() {
		family, offset = unix.NFPROTO_IPV6, 8
	}
	address := from.Masked().Addr().AsSlice()
	r := rule{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, is([]byte{family}),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(address))},
	}
	return append(r, masked(net.CIDRMask(from.Bits(), from.Addr().BitLen()), address)...)
}

func protocol(number byte) rule {
	return rule{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register}, is([]byte{number})}
}

// noSYN is TCP's packets but for the first of a connection.
func noSYN() rule {
	const flags, mask, syn = 13, 0x17, 0x02 // FIN, SYN, RST and ACK are looked at
	return rule{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: flags, Len: 1},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{mask}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: []byte{syn}},
	}
}

func sourcePorts(ports lb.PortRange) rule {
	if ports == lb.AllPorts {
		return nil
	}
	return rule{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
		&expr.Range{
			Op: expr.CmpOpEq, Register: register,
			FromData: binary.BigEndian.AppendUint16(nil, ports.First), ToData: binary.BigEndian.AppendUint16(nil, ports.Last),
		},
	}
}

func leavesBy(ifname string) rule {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, ifname)
	return rule{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: register}, is(name)}
}

// leave keeps the source as it is.
func leave() rule { return rule{&expr.Verdict{Kind: expr.VerdictReturn}} }

// translate gives the packet another source: an address, or the one that the interface would use itself.
func translate(to netip.Addr) rule {
	if !to.IsValid() {
		return rule{&expr.Masq{}}
	}
	family := uint32(unix.NFPROTO_IPV4)
	if to.Is6() {
		family = unix.NFPROTO_IPV6
	}
	return rule{
		&expr.Immediate{Register: register, Data: to.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: family, RegAddrMin: register, RegAddrMax: register},
	}
}
