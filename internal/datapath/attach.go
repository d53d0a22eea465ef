package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
)

// Mode says at which hook the XDP program runs.
type Mode string

// Native runs in the driver; generic after the kernel has built its packet, on any interface.
const (
	ModeAuto    Mode = "auto" // native where the driver can, else generic
	ModeNative  Mode = "native"
	ModeGeneric Mode = "generic"
)

// An AttachedDevice is an interface that our programs run on.
type AttachedDevice struct {
	Interface string `json:"interface"`
	Mode      Mode   `json:"mode"`
	ProgramID uint32 `json:"program_id"`
}

// attach makes the programs run on exactly these interfaces: links that are pinned get the new
// program by an update, which no packet notices.
func (d *Datapath) attach(names []string) ([]AttachedDevice, error) {
	var errs []error
	attached := []AttachedDevice{} // never nil: it was tried
	for _, name := range names {
		device, err := d.attachDevice(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		attached = append(attached, device)
	}
	d.attached = attached
	errs = append(errs, d.detachOthers(names))
	return attached, errors.Join(errs...)
}

func (d *Datapath) attachDevice(name string) (AttachedDevice, error) {
	device, err := findDevice(name)
	if err != nil {
		return AttachedDevice{}, err // which names the interface
	}
	// the fix-up first: without it native XDP on a veth would lose TCP
	err = d.attachTC(name, device.Index)
	var attached AttachedDevice
	if err == nil {
		attached, err = d.hook(name).attach(name, device.Index)
	}
	if err != nil {
		return AttachedDevice{}, fmt.Errorf("interface %s: %w", name, err)
	}
	return attached, nil
}

func (d *Datapath) linkPin(name, hook string) string {
	return filepath.Join(d.opts.Dir, "links", name+"-"+hook)
}

// An xdpHook is an XDP program that is to run on an interface, and where the link is pinned.
type xdpHook struct {
	program *ebpf.Program
	pin     string
	mode    Mode
}

func (d *Datapath) hook(name string) xdpHook {
	return xdpHook{d.programs.Programs["lb_xdp"], d.linkPin(name, "xdp"), d.opts.Mode}
}

func (h xdpHook) attach(name string, index int) (AttachedDevice, error) {
	l, err := openLink(h.pin, index)
	if err != nil {
		return AttachedDevice{}, err
	}
	if l != nil {
		defer l.Close()
		if mode := attachedMode(index); h.mode == ModeAuto || h.mode == mode {
			if err := l.Update(h.program); err != nil {
				return AttachedDevice{}, fmt.Errorf("replace the XDP program: %w", err)
			}
			return described(name, mode, h.program)
		}
		if err := os.Remove(h.pin); err != nil {
			return AttachedDevice{}, err
		}
		l.Close()
	}
	fresh, mode, err := h.newLink(index)
	if err != nil {
		return AttachedDevice{}, err
	}
	defer fresh.Close()
	if err := fresh.Pin(h.pin); err != nil {
		return AttachedDevice{}, fmt.Errorf("pin the XDP link: %w", err)
	}
	return described(name, mode, h.program)
}

func (h xdpHook) newLink(index int) (link.Link, Mode, error) {
	try := map[Mode][]Mode{ModeAuto: {ModeNative, ModeGeneric}, ModeNative: {ModeNative}, ModeGeneric: {ModeGeneric}}
	flags := map[Mode]link.XDPAttachFlags{ModeNative: link.XDPDriverMode, ModeGeneric: link.XDPGenericMode}
	var err error
	for _, mode := range try[h.mode] {
		if err := refuseForeign(index); err != nil {
			return nil, "", err
		}
		var l link.Link
		l, err = link.AttachXDP(link.XDPOptions{Program: h.program, Interface: index, Flags: flags[mode]})
		if err == nil {
			return l, mode, nil
		}
		err = fmt.Errorf("attach XDP in %s mode: %w", mode, err)
	}
	return nil, "", err
}

// refuseForeign returns an error when somebody else's program is on an interface that has no link of ours.
func refuseForeign(index int) error {
	owner, off := foreignProgram(index)
	if owner == "" {
		return nil
	}
	return fmt.Errorf("another XDP program is attached (%s); it is not replaced: "+
		"detach it by what loaded it or by %q, or announce the VIP on another interface", owner, off)
}

// foreignProgram names the XDP program on an interface that has no link of ours, and the command
// that takes it off; "" when there is none.
func foreignProgram(index int) (owner, off string) {
	l, err := netlink.LinkByIndex(index)
	if err != nil || l.Attrs().Xdp == nil || !l.Attrs().Xdp.Attached {
		return "", ""
	}
	id := l.Attrs().Xdp.ProgId
	owner = fmt.Sprintf("id %d", id)
	if p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id)); err == nil {
		if info, err := p.Info(); err == nil {
			owner += ", name " + info.Name
		}
		p.Close()
	}
	hook := "xdp"
	if l.Attrs().Xdp.AttachMode == nl.XDP_ATTACHED_SKB {
		hook = "xdpgeneric"
	}
	return owner, fmt.Sprintf("ip link set dev %s %s off", l.Attrs().Name, hook)
}

// Runs says whether our XDP program is attached to an interface. Without it the machine must not
// hold the interface's VIPs: its stack would answer for the flows of other nodes as well.
func (d *Datapath) Runs(name string) bool { return d.detached(name) == "" }

// detached says what became of our XDP program on an interface, or "" when it is attached.
func (d *Datapath) detached(name string) string { return detachedLink(name, d.linkPin(name, "xdp")) }

func detachedLink(name, pin string) string {
	device, err := findDevice(name)
	if err != nil {
		return err.Error()
	}
	l, err := link.LoadPinnedLink(pin, nil)
	if err == nil {
		defer l.Close()
		info, err := l.Info()
		if err != nil {
			return fmt.Sprintf("pin %s: %v", pin, err)
		}
		if x := info.XDP(); x != nil && x.Ifindex == uint32(device.Index) {
			return ""
		}
	}
	if owner, _ := foreignProgram(device.Index); owner != "" {
		return fmt.Sprintf("interface %s: another XDP program is attached (%s)", name, owner)
	}
	if errors.Is(err, os.ErrNotExist) {
		return "pin " + pin + ": gone"
	}
	return fmt.Sprintf("interface %s: the XDP program was detached", name)
}

func attachedMode(index int) Mode {
	l, err := netlink.LinkByIndex(index)
	if err == nil && l.Attrs().Xdp != nil && l.Attrs().Xdp.AttachMode == nl.XDP_ATTACHED_SKB {
		return ModeGeneric
	}
	return ModeNative
}

func described(name string, mode Mode, program *ebpf.Program) (AttachedDevice, error) {
	info, err := program.Info()
	if err != nil {
		return AttachedDevice{}, fmt.Errorf("read program info: %w", err)
	}
	id, _ := info.ID()
	return AttachedDevice{Interface: name, Mode: mode, ProgramID: uint32(id)}, nil
}

// openLink opens a pinned link of an interface, or returns nil: when there is none, or it is of
// an interface that went away, whose name another one has now.
func openLink(pin string, index int) (link.Link, error) {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned link: %w", err)
	}
	info, err := l.Info()
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("read link info: %w", err)
	}
	attachedTo := uint32(0)
	if x := info.XDP(); x != nil {
		attachedTo = x.Ifindex
	} else if x := info.TCX(); x != nil {
		attachedTo = x.Ifindex
	}
	if attachedTo == uint32(index) {
		return l, nil
	}
	l.Close()
	return nil, os.Remove(pin)
}

// detachOthers removes the programs from interfaces that carry no VIP any more.
func (d *Datapath) detachOthers(names []string) error {
	entries, err := os.ReadDir(filepath.Join(d.opts.Dir, "links"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	keep := make(map[string]bool)
	for _, name := range names {
		for _, hook := range []string{"xdp", "tcx-ingress", "tcx-egress"} {
			keep[name+"-"+hook] = true
		}
	}
	var errs []error
	gone := make(map[string]bool)
	for _, entry := range entries {
		if keep[entry.Name()] {
			continue
		}
		errs = append(errs, os.Remove(filepath.Join(d.opts.Dir, "links", entry.Name())))
		gone[entry.Name()[:strings.LastIndexByte(entry.Name(), '-')]] = true
	}
	for name := range gone {
		errs = append(errs, removeFilters(strings.TrimSuffix(name, "-tcx")))
	}
	return errors.Join(errs...)
}
