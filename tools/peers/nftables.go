package main

import (
	"fmt"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers of 4 bytes (NFT_REG32_nn): the hash reads two of them as one key.
const (
	regSource = unix.NFT_REG32_00
	regPort   = unix.NFT_REG32_01
	regOut    = unix.NFT_REG32_02
)

// nftJhash sets a node up by nftables' own recipe for a cluster without a director:
//
//	table netdev lb {
//	  chain ingress {
//	    type filter hook ingress device rx0 priority 0;
//	    ip daddr 192.0.2.80 udp dport 443 jhash ip saddr . udp sport mod 3 seed 0xdeadbeef != 0 drop
//	    ip daddr 192.0.2.80 meta pkttype set host
//	  }
//	}
//
// Instead of one value the node compares with one that is always or never there.
func nftJhash(responsible bool) func(*namespace) error {
	return func(*namespace) error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: "lb"})
		chain := c.AddChain(&nftables.Chain{
			Table: table, Name: "ingress", Device: receiver,
			Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter,
		})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(toVIP(), dropOthers(responsible)...)})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(toVIP(),
			&expr.Immediate{Register: unix.NFT_REG_1, Data: []byte{unix.PACKET_HOST}},
			&expr.Meta{Key: expr.MetaKeyPKTTYPE, SourceRegister: true, Register: unix.NFT_REG_1},
		)})
		if err := c.Flush(); err != nil {
			return fmt.Errorf("add the rules of nftables: %w", err)
		}
		return nil
	}
}

// toVIP goes on with IPv4 for the VIP.
func toVIP() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: unix.NFT_REG_1},
		equal(unix.NFT_REG_1, binaryutil.BigEndian.PutUint16(unix.ETH_P_IP)),
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4, DestRegister: unix.NFT_REG_1},
		equal(unix.NFT_REG_1, net.ParseIP(vip).To4()),
	}
}

func dropOthers(responsible bool) []expr.Any {
	const never = nodes // a remainder that the hash does not have
	op := expr.CmpOpNeq
	if responsible {
		op = expr.CmpOpEq
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1},
		equal(unix.NFT_REG_1, []byte{unix.IPPROTO_UDP}),
		&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2, DestRegister: unix.NFT_REG_1},
		equal(unix.NFT_REG_1, binaryutil.BigEndian.PutUint16(port)),
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4, DestRegister: regSource},
		&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2, DestRegister: regPort},
		&expr.Hash{
			SourceRegister: regSource, DestRegister: regOut, Length: 8,
			Modulus: nodes, Seed: 0xdeadbeef, Type: expr.HashTypeJenkins,
		},
		&expr.Cmp{Op: op, Register: regOut, Data: binaryutil.NativeEndian.PutUint32(never)},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

func equal(register uint32, data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data}
}

// nftDNAT forwards by connection tracking, with or without a flowtable for connections that were
// answered:
//
//	table ip lb {
//	  flowtable f { hook ingress priority filter; devices = { rx0, out0 }; }
//	  chain prerouting {
//	    type nat hook prerouting priority dstnat;
//	    ip daddr 192.0.2.80 tcp dport 443 dnat to 203.0.113.21:8443
//	  }
//	  chain forward {
//	    type filter hook forward priority filter;
//	    ct state established flow add @f
//	  }
//	}
//
// One backend spares it the map that spreads new connections over several.
func nftDNAT(flowtable bool) func(*namespace) error {
	return func(*namespace) error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "lb"})
		chain := c.AddChain(&nftables.Chain{
			Table: table, Name: "prerouting", Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
		})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: dnat()})
		if flowtable {
			c.AddFlowtable(&nftables.Flowtable{Table: table, Name: "f", Devices: []string{receiver, sender}})
			chain := c.AddChain(&nftables.Chain{
				Table: table, Name: "forward", Type: nftables.ChainTypeFilter,
				Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
			})
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
				&expr.Ct{Key: expr.CtKeySTATE, Register: unix.NFT_REG_1},
				&expr.Bitwise{
					SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 4,
					Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED), Xor: make([]byte, 4),
				},
				&expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: make([]byte, 4)},
				&expr.FlowOffload{Name: "f"},
			}})
		}
		if err := c.Flush(); err != nil {
			return fmt.Errorf("add the rules of nftables: %w", err)
		}
		return nil
	}
}

func dnat() []expr.Any {
	return []expr.Any{
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4, DestRegister: unix.NFT_REG_1},
		equal(unix.NFT_REG_1, net.ParseIP(vip).To4()),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1},
		equal(unix.NFT_REG_1, []byte{unix.IPPROTO_TCP}),
		&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2, DestRegister: unix.NFT_REG_1},
		equal(unix.NFT_REG_1, binaryutil.BigEndian.PutUint16(port)),
		&expr.Immediate{Register: unix.NFT_REG_1, Data: backendAddr.AsSlice()},
		&expr.Immediate{Register: unix.NFT_REG_2, Data: binaryutil.BigEndian.PutUint16(backendPort)},
		&expr.NAT{
			Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4,
			RegAddrMin: unix.NFT_REG_1, RegProtoMin: unix.NFT_REG_2, Specified: true,
		},
	}
}
