package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The fix-up on ingress and the guard on egress: tcx links where the kernel has them (6.6), filters
// of a clsact qdisc before.
type tcHook struct {
	program string
	pin     string
	attach  ebpf.AttachType
	parent  uint32
}

var tcHooks = []tcHook{
	{"lb_ingress", "tcx-ingress", ebpf.AttachTCXIngress, netlink.HANDLE_MIN_INGRESS},
	{"lb_egress", "tcx-egress", ebpf.AttachTCXEgress, netlink.HANDLE_MIN_EGRESS},
}

// filterPriority is ours in a clsact qdisc that others may share.
const filterPriority = 0x6c62 // "lb"

func (d *Datapath) attachTC(name string, index int) error {
	for _, hook := range tcHooks {
		program := d.programs.Programs[hook.program]
		err := d.attachTCX(d.linkPin(name, hook.pin), index, hook, program)
		if errors.Is(err, ebpf.ErrNotSupported) {
			err = attachFilter(index, hook, program)
		}
		if err != nil {
			return fmt.Errorf("attach %s: %w", hook.program, err)
		}
	}
	return nil
}

func (d *Datapath) attachTCX(pin string, index int, hook tcHook, program *ebpf.Program) error {
	l, err := openLink(pin, index)
	if err != nil {
		return err
	}
	if l != nil {
		defer l.Close()
		return l.Update(program)
	}
	fresh, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: program, Attach: hook.attach})
	if err != nil {
		return err
	}
	defer fresh.Close()
	return fresh.Pin(pin)
}

// attachFilter replaces our filter in one step; the kernel keeps it without this process.
func attachFilter(index int, hook tcHook, program *ebpf.Program) error {
	qdisc := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: index,
			Handle:    netlink.MakeHandle(0xffff, 0),
			Parent:    netlink.HANDLE_CLSACT,
		},
		QdiscType: "clsact",
	}
	if err := netlink.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add clsact qdisc: %w", err)
	}
	filter := filterOf(index, hook)
	filter.Fd = program.FD()
	if err := netlink.FilterReplace(filter); err != nil {
		return fmt.Errorf("replace filter: %w", err)
	}
	return nil
}

func filterOf(index int, hook tcHook) *netlink.BpfFilter {
	return &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index,
			Parent:    hook.parent,
			Handle:    1,
			Protocol:  unix.ETH_P_ALL,
			Priority:  filterPriority,
		},
		Name:         hook.program,
		DirectAction: true,
	}
}

// removeFilters removes our filters from an interface. The qdisc stays: others may use it.
func removeFilters(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return nil // the interface is gone, and its filters with it
	}
	for _, hook := range tcHooks {
		filters, err := netlink.FilterList(l, hook.parent)
		if err != nil {
			return nil // no qdisc, no filters
		}
		for _, f := range filters {
			if b, ok := f.(*netlink.BpfFilter); ok && b.Name == hook.program && b.Priority == filterPriority {
				if err := netlink.FilterDel(f); err != nil {
					return fmt.Errorf("interface %s: remove filter: %w", name, err)
				}
			}
		}
	}
	return nil
}
