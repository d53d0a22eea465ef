package netlab

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Cut keeps apart a host and everybody else on a switch but the owners of some MACs: between
// these and the host frames go both ways, all others are lost. The host's own link stays up and tells
// it nothing. A second cut replaces the first.
func (s *Switch) Cut(h *Host, ifname string, reach ...net.HardwareAddr) error {
	return s.Host.onLink(portOf(h, ifname), "cut off", func(link netlink.Link) error {
		qdisc := clsact(link)
		if err := netlink.QdiscReplace(qdisc); err != nil {
			return fmt.Errorf("add clsact qdisc: %w", err)
		}
		for _, way := range []struct {
			name   string
			parent uint32
			offset int32 // of the MAC of the other end, in a frame
		}{
			{"netlab_from", netlink.HANDLE_MIN_INGRESS, 0},
			{"netlab_to", netlink.HANDLE_MIN_EGRESS, 6},
		} {
			if err := addFilter(link, way.name, way.parent, onlyMACs(way.offset, reach)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Heal takes a cut back.
func (s *Switch) Heal(h *Host, ifname string) error {
	return s.Host.onLink(portOf(h, ifname), "heal", func(link netlink.Link) error {
		return netlink.QdiscDel(clsact(link))
	})
}

// Unplug pulls a cable out of a switch: the host's interface loses its carrier.
func (s *Switch) Unplug(h *Host, ifname string) error { return s.Host.Down(portOf(h, ifname)) }

// Plug puts the cable back.
func (s *Switch) Plug(h *Host, ifname string) error { return s.Host.Up(portOf(h, ifname)) }

func clsact(link netlink.Link) *netlink.GenericQdisc {
	return &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
		},
		QdiscType: "clsact",
	}
}

func addFilter(link netlink.Link, name string, parent uint32, instructions asm.Instructions) error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.SchedCLS, Instructions: instructions})
	if err != nil {
		return fmt.Errorf("load %s: %w", name, err)
	}
	defer prog.Close()
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: link.Attrs().Index, Parent: parent, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL,
		},
		Fd: prog.FD(), Name: name, DirectAction: true,
	}
	if err := netlink.FilterReplace(filter); err != nil {
		return fmt.Errorf("add filter %s: %w", name, err)
	}
	return nil
}

// onlyMACs passes a frame that has one of the MACs at an offset and drops all others.
func onlyMACs(offset int32, macs []net.HardwareAddr) asm.Instructions {
	const pass = "pass"
	program := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)} // where loads from the frame expect it
	for i, mac := range macs {
		next := fmt.Sprintf("next%d", i)
		program = append(program,
			asm.LoadAbs(offset, asm.Word),
			asm.JNE.Imm32(asm.R0, int32(binary.BigEndian.Uint32(mac[:4])), next),
			asm.LoadAbs(offset+4, asm.Half),
			asm.JEq.Imm(asm.R0, int32(binary.BigEndian.Uint16(mac[4:])), pass),
			asm.Mov.Imm(asm.R0, 0).WithSymbol(next),
		)
	}
	program = append(program, asm.Mov.Imm(asm.R0, int32(netlink.TC_ACT_SHOT)), asm.Return())
	if len(macs) > 0 {
		program = append(program, asm.Mov.Imm(asm.R0, int32(netlink.TC_ACT_OK)).WithSymbol(pass), asm.Return())
	}
	return program
}
