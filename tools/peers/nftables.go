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
