package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/flowhash"
)

//go:generate go tool -modfile=../../tools/go.mod bpf2go -cc clang-19 -target bpfel -type decap_reason -type address_role decap ../../bpf/decap.bpf.c -- -nostdinc -I../../bpf/vendor -I../../bpf/include -mcpu=v3 -Wall -Wextra -Werror

// Tunnels is what a backend takes out of tunnels.
type Tunnels struct {
	Interfaces []string     // by which they come; none: nothing is attached
	Own        []netip.Addr // this machine's addresses, where they end
	Directors  []netip.Addr // by whom they are sent
	VIPs       []netip.Addr // for which packets may come out
}

// A Decap is the writing side of the backend's program in one pin directory: it takes off what
// directors put before packets. It is for one goroutine at a time.
type Decap struct {
	opts       Options
	interfaces []string // of the last Set
	programs   *ebpf.Collection
}

// decapNames are the maps that outlive this process, by their pins.
var decapNames = []string{"addresses", "unwrapped"}

// OpenDecap takes over what is pinned in the directory "backend" of opts.Dir, if anything, and changes
// nothing that runs. SocketNetNS does not matter to it.
func OpenDecap(opts Options) (*Decap, error) {
	if err := mountBPF(opts.Dir); err != nil {
		return nil, err
	}
	if opts.Mode == "" {
		opts.Mode = ModeAuto
	}
	opts.Dir = decapDir(opts.Dir)
	spec, err := loadDecap()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	maps, err := pinnedDecapMaps(opts.Dir, spec)
	if err != nil {
		opts.Log.Info("starting with empty maps", "dir", opts.Dir, "reason", err)
	}
	defer closeMaps(maps)
	return newDecap(opts, spec, maps)
}

// newDecap loads the program over these maps, or new ones.
func newDecap(opts Options, spec *ebpf.CollectionSpec, maps map[string]*ebpf.Map) (*Decap, error) {
	programs, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: maps})
	if err != nil {
		return nil, fmt.Errorf("load programs: %w", err)
	}
	return &Decap{opts: opts, programs: programs}, nil
}

// pinnedDecapMaps opens the maps of an earlier lbd, unless its program was laid out otherwise.
func pinnedDecapMaps(dir string, spec *ebpf.CollectionSpec) (map[string]*ebpf.Map, error) {
	maps := make(map[string]*ebpf.Map)
	for _, name := range decapNames {
		m, err := ebpf.LoadPinnedMap(mapPin(dir, name), nil)
		if err == nil {
			maps[name] = m
			err = spec.Maps[name].Compatible(m)
		}
		if err != nil {
			closeMaps(maps)
			return nil, fmt.Errorf("map %s: %w", name, err)
		}
	}
	return maps, nil
}

// SetMode says how interfaces are attached from the next Set on.
func (d *Decap) SetMode(mode Mode) { d.opts.Mode = mode }

// Set makes the program run on exactly these interfaces and take off what comes from these directors.
// What is pinned stays when this process ends. An error is about the interface that it names.
func (d *Decap) Set(want Tunnels) ([]AttachedDevice, error) {
	for _, sub := range []string{"maps", "links"} {
		if err := os.MkdirAll(filepath.Join(d.opts.Dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("create pin directory: %w", err)
		}
	}
	if err := d.writeAddresses(want); err != nil {
		return nil, fmt.Errorf("write addresses: %w", err)
	}
	for _, name := range decapNames {
		if err := pinMap(d.programs.Maps[name], mapPin(d.opts.Dir, name)); err != nil {
			return nil, fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	attached := []AttachedDevice{}
	var errs []error
	var pins []string
	for _, name := range want.Interfaces {
		pins = append(pins, d.linkPin(name))
		device, err := findDevice(name)
		if err != nil {
			errs = append(errs, err) // which names the interface
			continue
		}
		on, err := xdpHook{d.programs.Programs["lb_decap"], d.linkPin(name), d.opts.Mode}.attach(name, device.Index)
		if err != nil {
			errs = append(errs, fmt.Errorf("interface %s: %w", name, err))
			continue
		}
		attached = append(attached, on)
	}
	d.interfaces = want.Interfaces
	return attached, errors.Join(append(errs, detachLinks(filepath.Join(d.opts.Dir, "links"), pins))...)
}

func (d *Decap) linkPin(name string) string { return filepath.Join(d.opts.Dir, "links", name+"-xdp") }

// writeAddresses adds what is missing before it removes what nobody wants: a director that stays is
// known all the time.
func (d *Decap) writeAddresses(want Tunnels) error {
	roles := make(map[decapAddress]uint32)
	note := func(addrs []netip.Addr, role decapAddressRole) {
		for _, a := range addrs {
			hi, lo := flowhash.Halves(a)
			roles[decapAddress{Hi: hi, Lo: lo}] |= uint32(role)
		}
	}
	note(want.Own, decapAddressRoleADDRESS_OWN)
	note(want.Directors, decapAddressRoleADDRESS_DIRECTOR)
	note(want.VIPs, decapAddressRoleADDRESS_VIP)
	addresses := d.programs.Maps["addresses"]
	for addr, role := range roles {
		if err := addresses.Put(addr, role); err != nil {
			return err
		}
	}
	var gone []decapAddress
	var addr decapAddress
	var role uint32
	for entries := addresses.Iterate(); entries.Next(&addr, &role); {
		if _, wanted := roles[addr]; !wanted {
			gone = append(gone, addr)
		}
	}
	for _, addr := range gone {
		if err := addresses.Delete(addr); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

// Counters returns all that are not zero, by reason; they have no scope.
func (d *Decap) Counters() ([]Counter, error) {
	var list []Counter
	for n, reason := range decapReasons {
		var perCPU []decapCounter
		if err := d.programs.Maps["unwrapped"].Lookup(uint32(n), &perCPU); err != nil {
			return nil, fmt.Errorf("read counters: %w", err)
		}
		c := Counter{Reason: reason.Name, Verdict: reason.Verdict}
		for _, part := range perCPU {
			c.Packets += part.Packets
			c.Bytes += part.Bytes
		}
		if c.Packets > 0 {
			list = append(list, c)
		}
	}
	return list, nil
}

// Missing lists what others removed since the last Set, a line each. Set brings it back.
func (d *Decap) Missing() []string {
	var missing []string
	for _, name := range decapNames {
		if pin := mapPin(d.opts.Dir, name); len(d.interfaces) > 0 {
			if _, err := os.Lstat(pin); errors.Is(err, os.ErrNotExist) {
				missing = append(missing, "pin "+pin+": gone")
			}
		}
	}
	for _, name := range d.interfaces {
		if line := detachedLink(name, d.linkPin(name)); line != "" {
			missing = append(missing, line)
		}
	}
	return missing
}

// Close lets go of everything; what is pinned and attached goes on without this process.
func (d *Decap) Close() { d.programs.Close() }

// Unwraps says whether the program of a Decap of the directory runs on an interface.
func Unwraps(dir, ifname string) bool {
	return detachedLink(ifname, filepath.Join(decapDir(dir), "links", ifname+"-xdp")) == ""
}

// WithdrawDecap detaches what any Decap of the directory left, and removes every pin.
func WithdrawDecap(dir string) error {
	err := errors.Join(detachLinks(filepath.Join(decapDir(dir), "links"), nil), os.RemoveAll(decapDir(dir)))
	_ = os.Remove(dir) // unless a node's pins are there, too
	return err
}

// detachLinks detaches the links that are pinned in a directory, but for those to keep. Without a word
// the kernel would detach one whose pin is gone some time later.
func detachLinks(dir string, keep []string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, entry := range entries {
		pin := filepath.Join(dir, entry.Name())
		if slices.Contains(keep, pin) {
			continue
		}
		if l, err := link.LoadPinnedLink(pin, nil); err == nil {
			_ = l.Detach() // fails when its interface is gone
			l.Close()
		}
		errs = append(errs, os.Remove(pin))
	}
	return errors.Join(errs...)
}

func decapDir(dir string) string { return filepath.Join(dir, "backend") }
