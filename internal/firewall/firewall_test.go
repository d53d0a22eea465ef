package firewall

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// masquerade is of both families, with VIPs and replies that it must spare.
func masquerade() Want {
	return Of(&lb.State{
		VIPs: []lb.VIP{{Addr: netip.MustParseAddr("10.0.0.80")}, {Addr: netip.MustParseAddr("2001:db8:1::80")}},
		Services: []lb.Service{{
			Forward: lb.ForwardNAT, Protocol: lb.ProtocolUDP, Ports: []lb.PortRange{{First: 53, Last: 53}, {First: 5000, Last: 5010}},
			Backends: []lb.Backend{{Addr: netip.MustParseAddr("10.0.0.21")}, {Addr: netip.MustParseAddr("10.0.0.21"), Port: 7}},
		}},
		Masquerade: []lb.Masquerade{
			{From: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("2001:db8:1::/64")}, Out: "eth0"},
		},
	})
}

type machine struct {
	*netlab.Host
	*Firewall
	note string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	note := filepath.Join(t.TempDir(), "firewall")
	return machine{nettest.Host(t, nettest.New(t), "director"), New(note), note}
}

func (m machine) set(t *testing.T, want Want) {
	t.Helper()
	check(t, m.Do(func() error { return m.Set(context.Background(), want) }))
}

func (m machine) drift(t *testing.T, want Want) (drift string) {
	t.Helper()
	check(t, m.Do(func() (err error) { drift, err = m.Check(want); return err }))
	return drift
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dump is all that nftables has, but for the number of the transaction that messages carry: ours, or
// that of all others.
func (m machine) dump(t *testing.T, ours bool) (messages [][]byte) {
	t.Helper()
	check(t, m.Do(func() error {
		for _, kind := range []int{unix.NFT_MSG_GETTABLE, unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETSET, unix.NFT_MSG_GETRULE, unix.NFT_MSG_GETOBJ} {
			req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NLM_F_DUMP)
			req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_UNSPEC})
			found, err := req.Execute(unix.NETLINK_NETFILTER, 0)
			if err != nil {
				return err
			}
			for _, message := range found {
				attrs, err := nl.ParseRouteAttr(message[nl.SizeofNfgenmsg:])
				if err != nil {
					return err
				}
				i := slices.IndexFunc(attrs, func(a syscall.NetlinkRouteAttr) bool { return a.Attr.Type == unix.NFTA_TABLE_NAME }) // the same number in all
				mine := message[0] == unix.NFPROTO_INET && string(attrs[i].Value) == tableName+"\x00"
				if mine == ours {
					copy(message[2:4], []byte{0, 0})
					messages = append(messages, message)
				}
			}
		}
		return nil
	}))
	return messages
}

// change is what somebody else does with nftables.
func (m machine) change(t *testing.T, do func(*nftables.Conn)) {
	t.Helper()
	check(t, m.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		do(conn)
		return conn.Flush()
	}))
}

// switchOff is "nft add table inet lbd { flags dormant; }", which the library cannot say.
func switchOff() error {
	message := func(kind int, family uint8, subsystem uint16) *nl.NetlinkRequest {
		req := nl.NewNetlinkRequest(kind, 0)
		req.AddData(&nl.Nfgenmsg{NfgenFamily: family, ResId: nl.Swap16(subsystem)})
		return req
	}
	add := message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE, unix.NFPROTO_INET, 0)
	add.AddData(nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(tableName)))
	add.AddData(nl.NewRtAttr(unix.NFTA_TABLE_FLAGS, []byte{0, 0, 0, unix.NFT_TABLE_F_DORMANT}))
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	return unix.Sendto(socket, slices.Concat(
		message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.NFNL_SUBSYS_NFTABLES).Serialize(), add.Serialize(),
		message(unix.NFNL_MSG_BATCH_END, 0, unix.NFNL_SUBSYS_NFTABLES).Serialize(),
	), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

func TestOtherTablesStayByteForByte(t *testing.T) {
	m := newMachine(t)
	m.change(t, func(conn *nftables.Conn) {
		for _, table := range []*nftables.Table{
			{Name: "lbd", Family: nftables.TableFamilyIPv4}, {Name: "nat", Family: nftables.TableFamilyINet}, {Name: "lbd", Family: nftables.TableFamilyIPv6},
		} {
			conn.AddTable(table)
			into := conn.AddChain(chain(table))
			conn.AddRule(&nftables.Rule{Table: table, Chain: into, Exprs: []expr.Any{&expr.Counter{}, &expr.Masq{}}})
			check(t, conn.AddSet(&nftables.Set{Table: table, Name: "some", KeyType: nftables.TypeIPAddr}, nil))
		}
	})
	before := m.dump(t, false)
	m.set(t, masquerade())
	if len(m.dump(t, true)) < 5 {
		t.Fatal("nothing was added")
	}
	m.set(t, Want{})
	if left := m.dump(t, true); len(left) > 0 {
		t.Errorf("%d messages about our table are left", len(left))
	}
	if diff := cmp.Diff(before, m.dump(t, false)); diff != "" || len(before) < 12 {
		t.Errorf("other tables, %d messages:\n%s", len(before), diff)
	}
}

// One made anew would forget what its rules are called, and what somebody counted by them.
func TestATableThatIsAsItShouldBeIsLeftAlone(t *testing.T) {
	m := newMachine(t)
	m.set(t, masquerade())
	before := m.dump(t, true)
	m.set(t, masquerade())
	m.Firewall = New(m.note) // as after a restart of lbd
	m.set(t, masquerade())
	if diff := cmp.Diff(before, m.dump(t, true)); diff != "" {
		t.Error(diff)
	}
	if drift := m.drift(t, masquerade()); drift != "" {
		t.Error(drift)
	}
}

func TestWhatOthersDoToTheTableIsFoundAndRepaired(t *testing.T) {
	ours := table(tableName)
	for name, do := range map[string]func(*nftables.Conn){
		"missing, should be present": func(c *nftables.Conn) { c.DelTable(ours) },
		"switched off, should be on": func(*nftables.Conn) { check(t, switchOff()) },
		"its chains were changed":    func(c *nftables.Conn) { c.AddChain(&nftables.Chain{Name: "more", Table: ours}) },
		"its rules were changed":     func(c *nftables.Conn) { c.FlushChain(chain(ours)) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.set(t, masquerade())
			m.change(t, do)
			if drift := m.drift(t, masquerade()); drift != "nftables table inet lbd: "+name {
				t.Errorf("found %q", drift)
			}
			m.set(t, masquerade())
			if drift := m.drift(t, masquerade()); drift != "" {
				t.Errorf("not repaired: %s", drift)
			}
		})
	}
}

// A table of that name may be somebody else's as long as lbd was never told to masquerade.
func TestOnlyWhatWasNotedIsRemoved(t *testing.T) {
	m := newMachine(t)
	m.change(t, func(conn *nftables.Conn) { conn.AddTable(table(tableName)) })
	withdraw := func() {
		t.Helper()
		check(t, m.Do(func() error { return m.Withdraw(context.Background()) }))
	}
	withdraw()
	if len(m.dump(t, true)) != 1 {
		t.Error("somebody's table is gone")
	}
	m.set(t, masquerade())
	m.Firewall = New(m.note) // as after lbd was killed
	withdraw()
	if left := m.dump(t, true); len(left) > 0 {
		t.Errorf("%d messages about our table are left", len(left))
	}
	if _, err := os.Stat(m.note); err == nil {
		t.Error("the note is left")
	}
}

func TestAKernelWithoutAPartIsTold(t *testing.T) {
	for _, lacks := range []struct{ module, want string }{
		{"nf_tables", "this kernel has no nf_tables (CONFIG_NF_TABLES_INET): load or install it, or leave masquerade out: no such file or directory"},
		{"nft_masq", "this kernel has no nft_masq (CONFIG_NFT_MASQ): load or install it, or leave masquerade out: no such file or directory"},
		{"", "no such file or directory"},
	} {
		err := explained(unix.ENOENT, func(p part) error {
			if p.module == lacks.module || lacks.module == "nf_tables" {
				return unix.EOPNOTSUPP
			}
			return nil
		})
		if err.Error() != lacks.want {
			t.Errorf("without %q: %s", lacks.module, err)
		}
	}
	m := newMachine(t)
	check(t, m.Do(func() error {
		for _, p := range parts() {
			if err := try(p); err != nil {
				t.Errorf("this kernel has %s, and says %v", p.module, err)
			}
		}
		return nil
	}))
	if left := m.dump(t, false); len(left) > 0 {
		t.Errorf("trying left %d messages about tables", len(left))
	}
}

func TestWhetherATableIsPossibleIsTriedWithoutOne(t *testing.T) {
	m := newMachine(t)
	before := append(m.dump(t, true), m.dump(t, false)...)
	check(t, m.Do(func() error { return m.Possible(masquerade()) }))
	if diff := cmp.Diff(before, append(m.dump(t, true), m.dump(t, false)...)); diff != "" {
		t.Errorf("trying left something (-before +after):\n%s", diff)
	}
}
