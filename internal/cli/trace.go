package cli

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/spf13/cobra"
)

// traceFlags are what lbctl trace lets one say about the made-up frame.
type traceFlags struct {
	vlan     uint16
	tcp      []string
	fragment string
	to       string
	iface    string
}

// A traceResult is what lbctl trace prints.
type traceResult struct {
	Interface string `json:"interface"`
	Sent      []byte `json:"sent"` // the made-up frame
	*datapath.Trace
	Out *leaving `json:"out,omitempty"` // what was sent, if anything, to another machine
}

func traceCommand(a *app) *cobra.Command {
	var flags traceFlags
	cmd := &cobra.Command{
		Use:   "trace tcp|udp|icmp SRC[:PORT] VIP[:PORT]",
		Short: "Run the real program on a made-up packet and show every decision",
		Long: `Makes up a packet, gives it to a private instance of the XDP program over the live maps, and
shows what the program decided at each step, and what would leave for another machine: its next
hop, the header of a tunnel, translated addresses and ports. Nothing is sent, counted or
remembered. Works with lbd running or not; needs root. Addresses of IPv6 are in brackets before a
port. A source port that is not given is made up.`,
		Example: `  lbctl trace tcp 198.51.100.7:40000 192.0.2.80:443
  lbctl trace tcp 198.51.100.7:40000 192.0.2.80:443 --flags ack --to own
  lbctl trace udp [2001:db8::7]:40000 [2001:db8:1::80]:53 --fragment first
  lbctl trace icmp 198.51.100.7 192.0.2.80 -o json`,
		Args: args(cobra.ExactArgs(3)),
		RunE: func(_ *cobra.Command, args []string) error {
			q, err := parseQuestion(args[0], args[1], args[2])
			if err != nil {
				return usageError{err}
			}
			f, err := flags.frame(q)
			if err != nil {
				return usageError{err}
			}
			view, err := datapath.OpenView(a.bpfDir)
			if err != nil {
				return err
			}
			defer view.Close()
			result, err := runTrace(view, f, flags.to, flags.iface)
			if err != nil {
				return err
			}
			return a.print(result, func(s *screen) { traceSteps(s, f, result) })
		},
	}
	set := cmd.Flags()
	set.Uint16Var(&flags.vlan, "vlan", 0, "tag the frame for this `VLAN`, 1 to 4094")
	set.StringSliceVar(&flags.tcp, "flags", []string{"syn"}, "TCP `FLAGS`: "+strings.Join(tcpFlagNames, ", "))
	set.StringVar(&flags.fragment, "fragment", "", "make it a fragment, this `PART` of its datagram: first or later")
	set.StringVar(&flags.to, "to", "shared", "destination `MAC`: shared, own, or an address")
	set.StringVar(&flags.iface, "interface", "", "arrive on `INTERFACE` instead of the VIP's own")
	return cmd
}

// tcpFlagNames is indexed by bit, RFC 9293 section 3.1.
var tcpFlagNames = []string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"}

// madeUpMAC is the router's that the frame seems to come from: a locally administered address.
var madeUpMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x01}

// frame checks the flags and fills in everything but the destination MAC, which takes the maps.
func (flags traceFlags) frame(q question) (*frame, error) {
	f := &frame{from: madeUpMAC, vlan: flags.vlan, protocol: q.protocol, source: q.source, dest: q.dest}
	if flags.vlan > 4094 {
		return nil, fmt.Errorf("--vlan %d: want 1 to 4094", flags.vlan)
	}
	switch flags.fragment {
	case "":
	case "first":
		f.fragment = fragmentFirst
	case "later":
		f.fragment = fragmentLater
	default:
		return nil, fmt.Errorf("--fragment %q: want first or later", flags.fragment)
	}
	for _, name := range flags.tcp {
		bit := indexFold(tcpFlagNames, name)
		if bit < 0 {
			return nil, fmt.Errorf("--flags %q: want %s", name, strings.Join(tcpFlagNames, ", "))
		}
		f.tcpFlags |= 1 << bit
	}
	if _, err := net.ParseMAC(flags.to); err != nil && flags.to != "shared" && flags.to != "own" {
		return nil, fmt.Errorf("--to %q: want shared, own, or a MAC", flags.to)
	}
	return f, nil
}

func indexFold(words []string, word string) int {
	for i := range words {
		if strings.EqualFold(words[i], word) {
			return i
		}
	}
	return -1
}

// runTrace addresses the frame by what the maps say about its VIP, and runs it.
func runTrace(view *datapath.View, f *frame, to, iface string) (*traceResult, error) {
	dump, err := view.Dump()
	if err != nil {
		return nil, err
	}
	if f.to, iface, err = addressFrame(dump, f, to, iface); err != nil {
		return nil, err
	}
	sent := f.bytes()
	trace, err := view.Trace(sent, iface)
	if err != nil {
		return nil, err
	}
	return &traceResult{iface, sent, trace, outOf(trace, iface)}, nil
}

// addressFrame returns the destination MAC and the interface of a frame.
func addressFrame(dump *datapath.Dump, f *frame, to, iface string) (net.HardwareAddr, string, error) {
	var vip datapath.VIPEntry
	for _, v := range dump.VIPs {
		if v.Address == f.dest.Addr().String() {
			vip = v
		}
	}
	if iface == "" {
		iface = vip.Interface
	}
	switch to {
	case "shared":
		to = vip.MAC
	case "own":
		to = vip.OwnMAC
	}
	if iface == "" || to == "" {
		return nil, "", fmt.Errorf("%s is no VIP here (%s): say --interface and --to MAC", f.dest.Addr(), vipList(dump))
	}
	mac, err := net.ParseMAC(to)
	if err != nil {
		return nil, "", err
	}
	if len(mac) != 6 {
		return nil, "", errors.New("--to " + to + ": want a MAC of 6 bytes")
	}
	return mac, iface, nil
}

func vipList(dump *datapath.Dump) string {
	if len(dump.VIPs) == 0 {
		return "there are none"
	}
	words := make([]string, len(dump.VIPs))
	for i, v := range dump.VIPs {
		words[i] = v.Address
	}
	return "the VIPs are " + strings.Join(words, ", ")
}

// traceSteps shows one decision a line, in the order the program takes them.
func traceSteps(s *screen, f *frame, r *traceResult) {
	step := func(name, format string, args ...any) {
		s.line("%s  %s", s.paint(bold, fmt.Sprintf("%-8s", name)), fmt.Sprintf(format, args...))
	}
	step("frame", "%s, %d bytes, to %s on %s", frameText(f), len(r.Sent), f.to, r.Interface)
	if r.Flow != nil {
		step("parse", "%s", parsedText(r.Trace))
		step("vip", "%s", r.VIP)
		step("service", "%s", orDash(r.Service))
	}
	if b := r.Bucket; b != nil {
		step("hash", "%#016x", b.Hash)
		step("bucket", "%d of table %d: %s", b.Index, b.Table, b.Verb)
		step("owner", "%s", bucketOwner(b))
	}
	if t := r.Slot; t != nil {
		step("slot", "%s", slotText(t))
		step("backend", "%s", backendText(t.Backend))
	}
	step("verdict", "%s, %s: %s", s.paint(verdictColour(r.Reason.Verdict), string(r.Reason.Verdict)),
		r.Reason.Name, r.Reason.Explanation)
	if !bytes.Equal(r.Frame, r.Sent) {
		step("out", "%s", changeText(r))
	}
}

// frameText describes the frame that was made up.
func frameText(f *frame) string {
	d := decode(f.bytes())
	text := d.protocol + " " + d.source + " -> " + d.destination
	if f.protocol == protoTCP && f.fragment != fragmentLater {
		var set []string
		for bit, name := range tcpFlagNames {
			if f.tcpFlags&(1<<bit) != 0 {
				set = append(set, name)
			}
		}
		text += " [" + strings.Join(set, " ") + "]"
	}
	if f.vlan != 0 {
		text += fmt.Sprintf(", vlan %d", f.vlan)
	}
	return text
}

// parsedText describes what the program took the frame for.
func parsedText(t *datapath.Trace) string {
	source, destination := t.Flow.Source.String(), t.Flow.Destination.String()
	if t.Flow.Protocol != protoTCP && t.Flow.Protocol != protoUDP || t.Fragment == "later" {
		source, destination = t.Flow.Source.Addr().String(), t.Flow.Destination.Addr().String()
	}
	text := protocolName(t.Flow.Protocol) + " " + source + " -> " + destination
	if t.VLAN != 0 {
		text += fmt.Sprintf(", vlan %d", t.VLAN)
	}
	if t.Fragment != "" {
		text += ", " + t.Fragment + " fragment"
	}
	if t.Error {
		text += ", quoted by an ICMP error"
	}
	if t.Direct {
		text += ", to this node's own MAC"
	}
	return text
}

func bucketOwner(b *datapath.TracedBucket) string {
	switch {
	case b.Node == "":
		return "nobody"
	case b.Verb == "accept":
		return b.Node + ", this node"
	}
	return b.Node
}

func slotText(t *datapath.TracedSlot) string {
	if len(t.Marks) == 0 {
		return fmt.Sprint(t.Slot)
	}
	return fmt.Sprintf("%d, in transition: %s", t.Slot, strings.Join(t.Marks, ", "))
}

func backendText(b *datapath.TracedBackend) string {
	if b == nil {
		return "none"
	}
	text := b.Address.String()
	if b.Port != 0 {
		text = netip.AddrPortFrom(b.Address, b.Port).String()
	}
	if b.Source != 0 {
		text += fmt.Sprintf(" from port %d of the VIP", b.Source)
	}
	if b.MAC == "" {
		return text + " by " + b.Method + ", next hop not known"
	}
	return fmt.Sprintf("%s by %s, next hop %s on %s", text, b.Method, b.MAC, b.Interface)
}

func verdictColour(v datapath.Verdict) string {
	switch v {
	case datapath.VerdictAccept, datapath.VerdictAnswer, datapath.VerdictForward:
		return green
	case datapath.VerdictDrop:
		return red
	default:
		return yellow
	}
}

// outOf describes the frame that leaves. One that is redirected leaves by its backend's interface.
func outOf(t *datapath.Trace, iface string) *leaving {
	const tx, redirect = 3, 4
	if t.Action != tx && t.Action != redirect || len(t.Frame) < 14 {
		return nil
	}
	if t.Action == redirect {
		iface = ""
		if t.Slot != nil && t.Slot.Backend != nil {
			iface = t.Slot.Backend.Interface
		}
	}
	return leavingFrame(t.Frame, iface)
}

// changeText says what the program wrote into the frame.
func changeText(r *traceResult) string {
	const macs = 12
	if r.Out != nil && r.Out.Packets != nil {
		return r.Out.text(len(r.Frame))
	}
	if len(r.Frame) == len(r.Sent) && bytes.Equal(r.Frame[macs/2:], r.Sent[macs/2:]) {
		return "destination MAC rewritten to " + net.HardwareAddr(r.Frame[:macs/2]).String()
	}
	return fmt.Sprintf("rewritten, %d bytes", len(r.Frame))
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
