package datapath_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/rendezvous"
)

// served is a state of one VIP and one service, both of the node's own, on an interface.
func served(ifname string) *lb.State {
	state := clusterState(0, worldTables()[tableMine])
	state.VIPs, state.Services = state.VIPs[:1], state.Services[:2]
	state.VIPs[0].Interface = ifname
	return state
}

// between is the table of some of the five nodes, and their state: those that are gone are not
// listed, as when they left.
func between(alive ...int) *lb.State {
	state := served("eth0")
	var members []rendezvous.Node
	state.Nodes = nil
	for i, n := range alive {
		state.Nodes = append(state.Nodes, lb.Node{Index: i, Name: nodeName(n), Weight: 1, Local: n == 0})
		members = append(members, rendezvous.Node{Name: nodeName(n), Weight: 1})
	}
	state.Tables = []*lb.Table{rendezvous.NewBuilder().Build(members)}
	return state
}

var (
	webAccepted = place{v4.serviceScope("web", vipMine), "accepted"}
	webNotOwner = place{v4.serviceScope("web", vipMine), "not-owner"}
)

func TestAProgramOfSomebodyElseIsNotReplaced(t *testing.T) {
	for _, test := range []struct {
		name  string
		flags int
	}{{"native", unix.XDP_FLAGS_DRV_MODE}, {"generic", unix.XDP_FLAGS_SKB_MODE}} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, "eth0")
			foreign, err := ebpf.NewProgram(&ebpf.ProgramSpec{
				Name: "foreign", Type: ebpf.XDP, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
			})
			s.must(err)
			defer foreign.Close()
			s.on("eth0", func(l netlink.Link) error {
				return netlink.LinkSetXdpFdWithFlags(l, foreign.FD(), test.flags)
			})
			before, _ := s.xdp("eth0")
			d := s.open(datapath.ModeAuto)
			_, err = s.trySet(d, served("eth0"))
			want := fmt.Sprintf("interface eth0: another XDP program is attached (id %d, name foreign)", before)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want one that says %q", err, want)
			}
			if after, _ := s.xdp("eth0"); after != before {
				t.Errorf("program %d is attached, want %d as before", after, before)
			}

			s.on("eth0", func(l netlink.Link) error { return netlink.LinkSetXdpFdWithFlags(l, -1, test.flags) })
			report := s.set(d, served("eth0"))
			if id, _ := s.xdp("eth0"); len(report.Attached) != 1 || id != report.Attached[0].ProgramID {
				t.Errorf("after it went away, program %d is attached, want that of %+v", id, report.Attached)
			}
		})
	}
}

func TestTrafficAndCountersSurviveWithoutTheProcess(t *testing.T) {
	s := newSite(t, "eth0")
	d := s.open(datapath.ModeNative)
	first := s.set(d, served("eth0"))
	s.send(s.client, "eth0", v4.tcp(vipMine, portWeb))
	s.eventuallyCounted(webAccepted, 1)
	pins, dump := s.pins(), s.dump()
	d.Close()

	s.send(s.client, "eth0", v4.tcp(vipMine, portWeb))
	s.eventuallyCounted(webAccepted, 2)
	d = s.open(datapath.ModeNative)
	s.send(s.client, "eth0", v4.tcp(vipMine, portWeb))
	s.eventuallyCounted(webAccepted, 3)
	again := s.set(d, served("eth0"))
	if first.Buckets != lb.Buckets || again.Buckets != 0 || again.Grown {
		t.Errorf("the first Set reported %+v, that of the next process %+v", first, again)
	}
	if diff := cmp.Diff(pins, s.pins()); diff != "" {
		t.Errorf("pins (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(dump, s.dump()); diff != "" {
		t.Errorf("maps (-before +after):\n%s", diff)
	}
	s.send(s.client, "eth0", v4.tcp(vipMine, portWeb))
	s.eventuallyCounted(webAccepted, 4)
}

// dump is what the maps hold; interfaces have names only inside.
func (s *site) dump() *datapath.Dump {
	s.t.Helper()
	var dump *datapath.Dump
	s.must(s.node.Do(func() (err error) {
		dump, err = s.view().Dump()
		return err
	}))
	return dump
}

func TestASecondSetWritesNothing(t *testing.T) {
	s := newSite(t, "eth0")
	d := s.open(datapath.ModeAuto)
	first, second := s.set(d, between(0, 1, 2, 3, 4)), s.set(d, between(0, 1, 2, 3, 4))
	if first.Buckets != lb.Buckets || second.Buckets != 0 {
		t.Errorf("%d and %d buckets, want %d and 0", first.Buckets, second.Buckets, lb.Buckets)
	}
	if id, _ := s.xdp("eth0"); id != first.Attached[0].ProgramID {
		t.Errorf("program %d after the second Set, %d after the first", id, first.Attached[0].ProgramID)
	}
}

// The one that leaves is in the middle of the list, so that those after it change their places.
func TestANodeThatLeavesMovesItsBucketsAlone(t *testing.T) {
	s := newSite(t, "eth0")
	d := s.open(datapath.ModeAuto)
	s.set(d, between(0, 1, 2, 3, 4))
	before := between(0, 1, 2, 3, 4).Tables[0]
	its := 0
	for _, owner := range before.Owners {
		if owner == 2 {
			its++
		}
	}
	if got := s.set(d, between(0, 1, 3, 4)).Buckets; got != its {
		t.Errorf("%d buckets written when a node left that had %d", got, its)
	}
	if got := s.set(d, between(0, 1, 2, 3, 4)).Buckets; got != its {
		t.Errorf("%d buckets written when it came back for %d", got, its)
	}
}

// A node's buckets, however the table came to be what it is.
func TestOwnersInTheKernelAreTheStates(t *testing.T) {
	s := newSite(t, "eth0")
	d := s.open(datapath.ModeAuto)
	for _, alive := range [][]int{{0, 1, 2, 3, 4}, {0, 1, 3, 4}, {4, 0}, {0}, {3, 2, 1, 0}} {
		want := between(alive...)
		s.set(d, want)
		buckets, err := s.view().Buckets(int(s.dump().VIPs[0].Table))
		s.must(err)
		for b, owner := range want.Tables[0].Owners {
			verb, node := "ignore", want.Nodes[owner]
			if node.Local {
				verb = "accept"
			}
			if buckets[b] != (datapath.Bucket{Verb: verb, Node: node.Name}) {
				t.Fatalf("nodes %v, bucket %d: %+v, want %s of %s", alive, b, buckets[b], verb, node.Name)
			}
		}
	}
}

// scopesOf is the number of each counter scope in the kernel.
func scopesOf(dump *datapath.Dump) map[string]uint16 {
	scopes := make(map[string]uint16)
	for _, v := range dump.VIPs {
		scopes["vip "+v.Address] = v.Scope
	}
	for _, service := range dump.Services {
		scopes["service "+service.Name] = service.Scope
	}
	return scopes
}

// A service that comes or goes must not move the counters of others.
func TestCountersStayWithTheirServices(t *testing.T) {
	s := newSite(t, "eth0")
	d := s.open(datapath.ModeAuto)
	want := served("eth0")
	s.set(d, want)
	s.send(s.client, "eth0", v4.tcp(vipMine, portWeb))
	s.eventuallyCounted(webAccepted, 1)
	before := scopesOf(s.dump())

	ssh := want.Services[0]
	ssh.Name, ssh.Ports = "ssh", []lb.PortRange{{First: portSSH, Last: portSSH}}
	without := served("eth0")
	without.Services = []lb.Service{ssh, without.Services[0]} // all ports of UDP are gone
	s.set(d, without)
	after := scopesOf(s.dump())
	for _, scope := range []string{"vip 192.0.2.10", "service web 192.0.2.10"} {
		if before[scope] == 0 || after[scope] != before[scope] {
			t.Errorf("%s has number %d, had %d", scope, after[scope], before[scope])
		}
	}
	s.eventuallyCounted(webAccepted, 1)
	s.send(s.client, "eth0", v4.tcp(vipMine, portSSH))
	s.eventuallyCounted(place{v4.serviceScope("ssh", vipMine), "accepted"}, 1)

	// what takes the number of one that went away starts from nothing
	s.set(d, want)
	s.set(d, without)
	list, err := s.view().Counters()
	s.must(err)
	for _, c := range list {
		if c.Scope == v4.serviceScope("ssh", vipMine) {
			t.Errorf("a service that came back counts from %+v", c)
		}
	}
}

// grown needs more tables and scopes than a map set has at first: one table for each service.
func grown() *lb.State {
	state := served("eth0")
	for i := range 40 {
		port := uint16(1000 + i)
		state.Tables = append(state.Tables, worldTables()[tableMine])
		state.Services = append(state.Services, lb.Service{
			Name: fmt.Sprintf("s%d", i), Protocol: lb.ProtocolTCP, Hash: lb.HashSource,
			Ports: []lb.PortRange{{First: port, Last: port}}, Table: 1 + i,
		})
	}
	return state
}

func TestWhatDoesNotFitGetsALargerMapSet(t *testing.T) {
	s := newSite(t, "eth0")
	d := s.open(datapath.ModeNative)
	s.set(d, served("eth0"))
	pins := s.pins()
	report := s.set(d, grown())
	if !report.Grown || report.Buckets != 41*lb.Buckets {
		t.Errorf("reported %+v, want a larger map set with all its buckets written", report)
	}
	if diff := cmp.Diff(pins, s.pins()); diff != "" {
		t.Errorf("pins (-before +after):\n%s", diff)
	}
	s.send(s.client, "eth0", v4.tcp(vipMine, 1039))
	s.eventuallyCounted(place{v4.serviceScope("s39", vipMine), "accepted"}, 1)
	d.Close()
	d = s.open(datapath.ModeNative)
	if report := s.set(d, grown()); report.Grown || report.Buckets != 0 {
		t.Errorf("the next process reported %+v, want nothing done", report)
	}
}

func TestWithdrawLeavesNothing(t *testing.T) {
	s := newSite(t, "eth0", "eth1")
	d := s.open(datapath.ModeAuto)
	want := served("eth0")
	want.VIPs = append(want.VIPs, lb.VIP{Addr: v6.vip(vipMine), Interface: "eth1", MAC: v6.mac(vipMine)})
	s.set(d, want)
	for _, ifname := range []string{"eth0", "eth1"} {
		if id, _ := s.xdp(ifname); id == 0 {
			t.Errorf("%s: no XDP program after Set", ifname)
		}
		if ingress, egress := s.tc(ifname); ingress != 1 || egress != 1 {
			t.Errorf("%s: %d programs at ingress and %d at egress after Set, want one each", ifname, ingress, egress)
		}
	}
	s.withdraw(d)
	s.gone("eth0")
	s.gone("eth1")
	if _, err := os.Lstat(s.dir); !os.IsNotExist(err) {
		t.Errorf("the pin directory: %v, with %v", err, s.pins())
	}
}

// gone waits until nothing of ours runs on an interface.
func (s *site) gone(ifname string) {
	s.t.Helper()
	nettest.Eventually(s.t, time.Minute, func() error {
		id, _ := s.xdp(ifname)
		if ingress, egress := s.tc(ifname); id != 0 || ingress+egress != 0 {
			return fmt.Errorf("%s: XDP program %d, %d programs at ingress and %d at egress are left", ifname, id, ingress, egress)
		}
		return nil
	})
}

func TestAnInterfaceThatLostItsVIPIsLetGo(t *testing.T) {
	s := newSite(t, "eth0", "eth1")
	d := s.open(datapath.ModeAuto)
	s.set(d, served("eth0"))
	s.set(d, served("eth1"))
	s.gone("eth0")
	s.send(s.client, "eth0", v4.tcp(vipMine, portWeb))
	s.eventuallyCounted(webAccepted, 1) // once: by eth1 alone
}

func TestAnInterfaceThatCameBackIsServedAgain(t *testing.T) {
	s := newSite(t, "eth0")
	d := s.open(datapath.ModeNative)
	s.set(d, served("eth0"))
	s.on("eth0", netlink.LinkDel)
	if _, err := s.trySet(d, served("eth0")); err == nil || !strings.Contains(err.Error(), "eth0") {
		t.Errorf("Set without the interface: %v, want an error that names it", err)
	}
	s.plug("eth0")
	s.set(d, served("eth0"))
	s.send(s.client, "eth0", v4.tcp(vipMine, portWeb))
	s.eventuallyCounted(webAccepted, 1)
}

func TestEveryModeAttachesAsItSays(t *testing.T) {
	s := newSite(t, "eth0")
	d := s.open(datapath.ModeNative)
	for i, test := range []struct{ mode, want datapath.Mode }{
		{datapath.ModeNative, datapath.ModeNative},
		{datapath.ModeGeneric, datapath.ModeGeneric},
		{datapath.ModeAuto, datapath.ModeGeneric}, // what is attached stays: a change would lose frames
		{datapath.ModeNative, datapath.ModeNative},
	} {
		d.SetMode(test.mode)
		report := s.set(d, served("eth0"))
		id, mode := s.xdp("eth0")
		want := []datapath.AttachedDevice{{Interface: "eth0", Mode: test.want, ProgramID: id}}
		if diff := cmp.Diff(want, report.Attached); diff != "" || mode != test.want {
			t.Errorf("mode %s attached as %s (-want +reported):\n%s", test.mode, mode, diff)
		}
		s.send(s.client, "eth0", v4.tcp(vipMine, portWeb))
		s.eventuallyCounted(webAccepted, uint64(i+1))
	}
}

func TestAutoFallsBackToGeneric(t *testing.T) {
	s := newSite(t)
	d := s.open(datapath.ModeNative)
	if _, err := s.trySet(d, served("lo")); err == nil || !strings.Contains(err.Error(), "attach XDP in native mode") {
		t.Errorf("native on an interface that cannot: %v", err)
	}
	d.SetMode(datapath.ModeAuto)
	s.set(d, served("lo"))
	if _, mode := s.xdp("lo"); mode != datapath.ModeGeneric {
		t.Errorf("attached as %q, want %s", mode, datapath.ModeGeneric)
	}
}

// What older kernels have instead of tcx, attached by hand where there is tcx.
func TestFiltersDoWhatTCXDoes(t *testing.T) {
	s := newSite(t, "eth0")
	d := s.open(datapath.ModeAuto)
	s.set(d, served("eth0"))
	for _, hook := range []string{"tcx-ingress", "tcx-egress"} {
		s.detach(filepath.Join(s.dir, "links", "eth0-"+hook))
	}
	for range 2 { // the second time, it replaces
		s.on("eth0", func(l netlink.Link) error { return d.AttachFilters(l.Attrs().Index) })
		if ingress, egress := s.tc("eth0"); ingress != 1 || egress != 1 {
			t.Errorf("%d filters at ingress and %d at egress, want one each", ingress, egress)
		}
	}
	// the guard works, and what it lets go leaves
	claim := frameOf(eth{Dst: broadcast, Src: clientMAC}, arp{Operation: 1, SenderMAC: clientMAC, Sender: v4.vip(vipMine), Target: v4.client})
	s.send(s.node, "eth0", claim)
	s.eventuallyCounted(place{v4.scope(vipMine), "arp-masked"}, 1)
	s.send(s.client, "eth0", v4.tcp(vipMine, portWeb))
	s.eventuallyCounted(webAccepted, 1)

	s.on("eth0", addForeignFilter)
	s.withdraw(d)
	s.on("eth0", func(l netlink.Link) error {
		filters, err := netlink.FilterList(l, netlink.HANDLE_MIN_INGRESS)
		if err == nil && (len(filters) != 1 || filters[0].Attrs().Priority != 7) {
			t.Errorf("filters left at ingress: %v, want the foreign one alone", filters)
		}
		return err
	})
	if _, egress := s.tc("eth0"); egress != 0 {
		t.Errorf("%d filters are left at egress", egress)
	}
}

// detach ends a pinned link, if there is one.
func (s *site) detach(pin string) {
	s.t.Helper()
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	s.must(err)
	defer l.Close()
	s.must(l.Detach())
	s.must(os.Remove(pin))
}

// addForeignFilter adds what somebody else may have at ingress, of priority 7.
func addForeignFilter(l netlink.Link) error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "foreign", Type: ebpf.SchedCLS, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		return err
	}
	defer program.Close()
	return netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS, Protocol: unix.ETH_P_ALL, Priority: 7,
		},
		Fd: program.FD(), Name: "foreign", DirectAction: true,
	})
}

// A frame that another node owns never reaches this node's stack, whatever hooks come later.
func TestAStateThatChangesIsWhatTheNextFrameMeets(t *testing.T) {
	s := newSite(t, "eth0")
	d := s.open(datapath.ModeAuto)
	for n := range uint64(3) {
		s.set(d, served("eth0"))
		s.send(s.client, "eth0", v4.tcp(vipMine, portWeb))
		s.eventuallyCounted(webAccepted, n+1)
		others := served("eth0")
		others.Tables = []*lb.Table{{Owners: slices.Repeat([]int16{1}, lb.Buckets)}}
		s.set(d, others)
		s.send(s.client, "eth0", v4.tcp(vipMine, portWeb))
		s.eventuallyCounted(webNotOwner, n+1)
	}
}
