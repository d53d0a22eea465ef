package nettest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
)

// A Fault is frames that a switch loses between two of its ports. The zero value is all frames.
type Fault struct {
	From, To  string // the ports that they come in and would go out at; "" is any
	Ethertype uint16 // 0 is any
	Protocol  byte   // of IP; 0 is any
	Port      uint16 // of TCP or UDP, at either end; 0 is any protocol
	Percent   int    // how many of them, by chance; 0 is all. Without Port: a frame may have it at both ends
}

// SetFaults makes a switch lose what is listed and nothing else, at once. The frames pass its ports
// and are gone: carriers stay, and nobody is told.
func SetFaults(t testing.TB, sw *netlab.Switch, faults ...Fault) {
	t.Helper()
	if err := TrySetFaults(sw, faults...); err != nil {
		t.Fatal(err)
	}
}

// TrySetFaults is SetFaults for goroutines that may not end a test.
func TrySetFaults(sw *netlab.Switch, faults ...Fault) error {
	err := sw.Host.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := faultTable()
		// one transaction: deleted once it is sure to exist
		conn.AddTable(table)
		conn.DelTable(table)
		conn.AddTable(table)
		chain := conn.AddChain(&nftables.Chain{
			Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		})
		for _, f := range faults {
			for _, match := range f.matches() {
				match = append(match, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})
				conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: match})
			}
		}
		return conn.Flush()
	})
	if err != nil {
		return fmt.Errorf("set faults of switch %s: %w", sw.Host.Name, err)
	}
	return nil
}

// Lost returns how many frames a switch lost since SetFaults.
func Lost(t testing.TB, sw *netlab.Switch) (frames uint64) {
	t.Helper()
	err := sw.Host.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := faultTable()
		rules, err := conn.GetRules(table, &nftables.Chain{Name: "forward", Table: table})
		for _, rule := range rules {
			for _, e := range rule.Exprs {
				if counter, ok := e.(*expr.Counter); ok {
					frames += counter.Packets
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatalf("count the frames that switch %s lost: %v", sw.Host.Name, err)
	}
	return frames
}

func faultTable() *nftables.Table {
	return &nftables.Table{Name: "faults", Family: nftables.TableFamilyBridge}
}

// matches returns one rule, or one for each end that a port may be at.
func (f Fault) matches() [][]expr.Any {
	var match []expr.Any
	if f.From != "" {
		match = append(match, &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equals(interfaceName(f.From)))
	}
	if f.To != "" {
		match = append(match, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, equals(interfaceName(f.To)))
	}
	if f.Ethertype != 0 {
		match = append(match,
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: 12, Len: 2},
			equals(binary.BigEndian.AppendUint16(nil, f.Ethertype)))
	}
	if f.Protocol != 0 {
		match = append(match, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equals([]byte{f.Protocol}))
	}
	rules := [][]expr.Any{match}
	if f.Port != 0 {
		rules = nil
		for _, protocol := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			for _, offset := range []uint32{0, 2} { // source, destination
				rules = append(rules, append(slices.Clip(match),
					&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equals([]byte{protocol}),
					&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
					equals(binary.BigEndian.AppendUint16(nil, f.Port))))
			}
		}
	}
	if f.Percent != 0 {
		for i := range rules {
			rules[i] = append(rules[i], chance(f.Percent)...)
		}
	}
	return rules
}

func equals(data []byte) *expr.Cmp { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

func interfaceName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// chance matches so many of a hundred frames. Numbers compare as bytes, so it takes network order.
func chance(percent int) []expr.Any {
	return []expr.Any{
		&expr.Numgen{Register: 1, Modulus: 100, Type: unix.NFT_NG_RANDOM},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4},
		&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binary.BigEndian.AppendUint32(nil, uint32(percent))},
	}
}
