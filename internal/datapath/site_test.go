package datapath_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// A site is a node and a client at a switch, and a pin directory of the node's own.
type site struct {
	t            *testing.T
	lab          *netlab.Lab
	sw           *netlab.Switch
	node, client *netlab.Host
	dir          string
}

// newSite plugs the node in with the given interfaces.
func newSite(t *testing.T, ifnames ...string) *site {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("network namespaces and BPF need root")
	}
	lab := nettest.New(t)
	sw, err := lab.Switch("sw", netlab.SwitchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{
		t: t, lab: lab, sw: sw,
		node:   nettest.Host(t, lab, "node"),
		client: nettest.Host(t, lab, "client"),
		dir:    filepath.Join("/sys/fs/bpf", strings.TrimSuffix(nettest.Prefix(), "-")),
	}
	t.Cleanup(func() { s.must(os.RemoveAll(s.dir)) })
	for _, ifname := range ifnames {
		s.plug(ifname)
	}
	s.must(lab.Connect(s.client, "eth0", sw, netlab.LinkOptions{}))
	return s
}

func (s *site) plug(ifname string) {
	s.t.Helper()
	s.must(s.lab.Connect(s.node, ifname, s.sw, netlab.LinkOptions{SwitchXDP: true}))
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) open(mode datapath.Mode) *datapath.Datapath {
	s.t.Helper()
	d, err := datapath.Open(datapath.Options{Dir: s.dir, Mode: mode, Log: slog.New(slog.DiscardHandler)})
	s.must(err)
	s.t.Cleanup(d.Close)
	return d
}

// set is Set inside the node.
func (s *site) set(d *datapath.Datapath, want *lb.State) datapath.Report {
	s.t.Helper()
	report, err := s.trySet(d, want)
	s.must(err)
	return report
}

func (s *site) trySet(d *datapath.Datapath, want *lb.State) (report datapath.Report, err error) {
	err = s.node.Do(func() error {
		report, err = d.Set(context.Background(), want)
		return err
	})
	return report, err
}

func (s *site) withdraw(d *datapath.Datapath) {
	s.t.Helper()
	s.must(s.node.Do(d.Withdraw))
}

// on finds an interface of the node and gives it to f, inside.
func (s *site) on(ifname string, f func(netlink.Link) error) {
	s.t.Helper()
	s.must(s.node.Do(func() error {
		l, err := netlink.LinkByName(ifname)
		if err != nil {
			return err
		}
		return f(l)
	}))
}

// xdp is the program on an interface of the node: its number, 0 for none, and where it runs.
func (s *site) xdp(ifname string) (id uint32, mode datapath.Mode) {
	s.t.Helper()
	s.on(ifname, func(l netlink.Link) error {
		x := l.Attrs().Xdp
		if x == nil || !x.Attached {
			return nil
		}
		id, mode = x.ProgId, datapath.ModeNative
		if x.AttachMode == nl.XDP_ATTACHED_SKB {
			mode = datapath.ModeGeneric
		}
		return nil
	})
	return id, mode
}

// tc counts what runs on an interface of the node at each hook, of tcx and of filters: 1 and 1 when
// our programs are there, in the way that the kernel has.
func (s *site) tc(ifname string) (ingress, egress int) {
	s.t.Helper()
	s.on(ifname, func(l netlink.Link) error {
		for _, hook := range []struct {
			attach ebpf.AttachType
			parent uint32
			count  *int
		}{
			{ebpf.AttachTCXIngress, netlink.HANDLE_MIN_INGRESS, &ingress},
			{ebpf.AttachTCXEgress, netlink.HANDLE_MIN_EGRESS, &egress},
		} {
			links, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: hook.attach})
			if err == nil {
				*hook.count += len(links.Programs)
			} else if !errors.Is(err, ebpf.ErrNotSupported) && !errors.Is(err, unix.EINVAL) {
				return err
			}
			filters, err := filtersOf(l, hook.parent)
			if err != nil {
				return err
			}
			*hook.count += len(filters)
		}
		return nil
	})
	return ingress, egress
}

// filtersOf lists the filters of a hook; without a qdisc there are none.
func filtersOf(l netlink.Link, parent uint32) ([]netlink.Filter, error) {
	qdiscs, err := netlink.QdiscList(l)
	if err != nil || !slices.ContainsFunc(qdiscs, func(q netlink.Qdisc) bool { return q.Type() == "clsact" }) {
		return nil, err
	}
	return netlink.FilterList(l, parent)
}

// pins lists the files below the pin directory; none when it is not there.
func (s *site) pins() []string {
	s.t.Helper()
	pins := []string{}
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			pins = append(pins, strings.TrimPrefix(path, s.dir+"/"))
		}
		return err
	})
	if !errors.Is(err, os.ErrNotExist) {
		s.must(err)
	}
	return pins
}

// send puts a frame on the wire.
func (s *site) send(from *netlab.Host, ifname string, frame []byte) {
	s.t.Helper()
	s.must(from.Do(func() error {
		dev, err := net.InterfaceByName(ifname)
		if err != nil {
			return err
		}
		c, err := packet.Listen(dev, packet.Raw, 0, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
		return err
	}))
}

// view reads the pins, as tools do.
func (s *site) view() *datapath.View {
	s.t.Helper()
	v, err := datapath.OpenView(s.dir)
	s.must(err)
	s.t.Cleanup(v.Close)
	return v
}

// eventuallyCounted waits until the pinned counters of a place say n packets.
func (s *site) eventuallyCounted(at place, n uint64) {
	s.t.Helper()
	view := s.view()
	nettest.Eventually(s.t, time.Minute, func() error {
		list, err := view.Counters()
		if err != nil {
			return err
		}
		for _, c := range list {
			if (place{c.Scope, c.Reason}) == at && c.Packets == n {
				return nil
			}
		}
		return fmt.Errorf("%v: not %d in %v", at, n, list)
	})
}
