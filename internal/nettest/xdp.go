package nettest

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
)

// ForeignXDP attaches an XDP program that is somebody else's to an interface, as `ip link set` does:
// it passes everything and is called "foreign". Flags are unix.XDP_FLAGS_*. It returns the program's
// id, or what the kernel has against it.
func ForeignXDP(host *netlab.Host, ifname string, flags int) (id int, err error) {
	const pass = 2
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         "foreign",
		Type:         ebpf.XDP,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, pass), asm.Return()},
	})
	if err != nil {
		return 0, fmt.Errorf("load the foreign program: %w", err)
	}
	defer program.Close()
	if err := setXDP(host, ifname, program.FD(), flags|unix.XDP_FLAGS_UPDATE_IF_NOEXIST); err != nil {
		return 0, err
	}
	info, err := program.Info()
	if err != nil {
		return 0, err
	}
	number, _ := info.ID()
	return int(number), nil
}

// RemoveXDP takes a program off that ForeignXDP attached with the same flags.
func RemoveXDP(t testing.TB, host *netlab.Host, ifname string, flags int) {
	t.Helper()
	if err := setXDP(host, ifname, -1, flags); err != nil {
		t.Fatal(err)
	}
}

func setXDP(host *netlab.Host, ifname string, fd, flags int) error {
	return host.Do(func() error {
		link, err := netlink.LinkByName(ifname)
		if err != nil {
			return err
		}
		return netlink.LinkSetXdpFdWithFlags(link, fd, flags)
	})
}

// XDP returns the id of the XDP program on an interface, 0 when there is none.
func XDP(t testing.TB, host *netlab.Host, ifname string) (id int) {
	t.Helper()
	err := host.Do(func() error {
		link, err := netlink.LinkByName(ifname)
		if err != nil {
			return err
		}
		if xdp := link.Attrs().Xdp; xdp != nil && xdp.Attached {
			id = int(xdp.ProgId)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}
