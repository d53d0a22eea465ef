package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// line is a result; see the package's comment for what the baselines are.
type line struct {
	Peer     string  `json:"peer"`
	Role     string  `json:"role"`
	Lane     string  `json:"lane,omitempty"`
	Total    float64 `json:"total_ns"`
	Baseline string  `json:"baseline,omitempty"`
	// PerPacket is what the peer costs over its baseline.
	PerPacket *float64 `json:"ns_per_packet,omitempty"`
	// Own leaves out what a peer of its kind has to do in any case: make an skb to drop it, forward
	// by routes, or send by XDP.
	Own *float64 `json:"own_ns,omitempty"`
	// Times is how often lbctl does its part for a packet in what this peer needs for one.
	Times *float64 `json:"times_lbctl,omitempty"`
}

func report(w io.Writer, benches []bench, asJSON bool) error {
	lines := compare(benches)
	if asJSON {
		out := json.NewEncoder(w)
		for _, l := range lines {
			if err := out.Encode(l); err != nil {
				return err
			}
		}
		return nil
	}
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "PEER\tROLE\tLANE\tTOTAL ns\tOVER\tns/PACKET\tOWN\tTIMES lbctl")
	for _, l := range lines {
		fmt.Fprintf(out, "%s\t%s\t%s\t%.0f\t", l.Peer, l.Role, l.Lane, l.Total)
		if l.PerPacket != nil {
			fmt.Fprintf(out, "%s\t%.0f\t", l.Baseline, *l.PerPacket)
		}
		if l.Own != nil {
			fmt.Fprintf(out, "%.0f", *l.Own)
		}
		fmt.Fprint(out, "\t")
		if l.Times != nil {
			fmt.Fprintf(out, "%.1f", *l.Times)
		}
		fmt.Fprintln(out)
	}
	return out.Flush()
}

func compare(benches []bench) []line {
	totals := map[string]float64{} // of the baselines
	ours := map[string]float64{}   // by role and lane
	lines := make([]line, 0, len(benches))
	for _, b := range benches {
		l := line{Peer: b.name, Role: b.role, Lane: b.lane, Total: b.median()}
		switch b.role {
		case roleBaseline:
			totals[b.name] = l.Total
		case roleOwner:
			l.Baseline = deliver
			l.PerPacket = new(l.Total - totals[deliver])
		case roleNonOwner:
			l.Baseline = xdpDrop
			l.PerPacket = new(l.Total - totals[xdpDrop])
			if b.name != lbctl {
				l.Own = new(l.Total - totals[skbDrop])
			}
		case roleDR, roleNAT:
			l.Baseline = segmentDrop
			l.PerPacket = new(l.Total - totals[segmentDrop])
			floor := route
			if b.peer.program != nil {
				floor = segmentSend
			}
			l.Own = new(l.Total - totals[floor])
		}
		if l.PerPacket != nil {
			if b.name == lbctl {
				ours[b.role+b.lane] = *l.PerPacket
			}
			if mine := ours[b.role+b.lane]; mine > 0 {
				l.Times = new(*l.PerPacket / mine)
			}
		}
		lines = append(lines, l)
	}
	return lines
}
