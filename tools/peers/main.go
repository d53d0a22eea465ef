// Command peers measures what other ways of sharing one address cost for each packet, on the same
// frames: what a node pays to drop a packet that another node answers (non-owner), and what it
// pays on top of its network stack to take one (owner). It does the same for directors, by direct
// routing (dr) and by translation (nat), with segments of one connection, of many, and with SYNs.
//
// It runs where they all exist: in Debian's 6.1, the last kernel with CLUSTERIP, in a virtual
// machine that counts instructions. tools/peers/run.sh brings it there. There a nanosecond is an
// instruction, so figures repeat whatever the host does, and ratios are what they are good for:
// cache misses cost nothing.
//
// The program of this project runs on the same frames, and the table says how often it does its part
// in what a peer needs once.
//
// # Injection
//
// Frames come from BPF_PROG_RUN with live frames: the kernel hands pages to an XDP program as a
// driver does, recycles what it drops, and makes skbs of what it passes and sends them up as
// received on a veth, 64 at a time. The program cycles the source port through 1024 values and
// then tail-calls the verdict, which for a peer made of XDP is the peer itself. No other way in
// treats both kinds alike: pktgen and packet sockets start with an skb, which veth and generic XDP
// then copy for the program's headroom, so that dropping in XDP would seem to cost what it saves.
//
// # Baselines
//
//	xdp-drop  dropped by two instructions of XDP: the cost of the injection
//	skb-drop  made into an skb that the stack has no protocol for: what everything that is not XDP
//	          pays before it can decide. On 6.1 passed pages are not recycled, so this is dearer
//	          than with a driver that does
//	deliver   received by a UDP socket whose queue is full: the way of every packet a node takes
//
// A non-owner is compared with xdp-drop, and also with skb-drop, which leaves what its own decision
// costs. An owner is compared with deliver. A full queue was chosen as the end because there
// conntrack has confirmed the flow, as it has for nearly all packets of a real service; a rule that
// drops would make it track each packet as a new flow. Non-owners do drop unconfirmed flows in
// reality. Counters of the sockets prove after each round that every frame ended where it should.
//
// A director is compared with segment-drop: its figure is all that happens between a frame's
// arrival and its leaving. The column OWN leaves out what nobody of its kind can avoid:
//
//	segment-drop  as xdp-drop, with a TCP segment
//	segment-send  XDP_TX by two instructions. On a veth the other end's way to drop a frame is in
//	              it, more than a driver needs to send one
//	route         forwarded by routes alone, to a dummy device: less than a driver needs
//
// There is one backend: how many there are costs cache misses only. The plain balancer of
// bpf/lru.bpf.c is there as a mark of what XDP gives without further thought.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
)

func main() {
	list := flag.Bool("list", false, "list the peers and end")
	only := flag.String("only", "", "measure only the peer of this `name`, the baselines and lbctl")
	asJSON := flag.Bool("json", false, "print one JSON object for each line of the table")
	rounds := flag.Int("rounds", 5, "rounds; figures are medians")
	packets := flag.Int("packets", 20_000, "packets of a round")
	flag.Parse()

	if *list {
		for _, p := range peers {
			fmt.Printf("%-12s %-10s %s\n", p.name, p.role, p.about)
		}
		return
	}
	chosen, err := choose(*only)
	if err == nil {
		err = measure(chosen, *rounds, *packets, *asJSON)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func choose(only string) ([]peer, error) {
	if only == "" {
		return peers, nil
	}
	chosen := slices.DeleteFunc(slices.Clone(peers), func(p peer) bool {
		return p.role != roleBaseline && p.name != lbctl && p.name != only
	})
	if !slices.ContainsFunc(chosen, func(p peer) bool { return p.name == only }) {
		return nil, fmt.Errorf("no peer %q: see -list", only)
	}
	return chosen, nil
}

// measure takes the peers in turn in each round, so that drift of the machine meets all alike.
func measure(chosen []peer, rounds, packets int, asJSON bool) error {
	if rounds < 1 || packets < 1 {
		return errors.New("-rounds and -packets must be positive")
	}
	// Tables that fill up drop: the many connections must fit, and this file is of the first namespace.
	if err := os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_max", []byte("1048576"), 0); err != nil {
		return err
	}
	// Namespaces belong to threads.
	runtime.LockOSThread()
	in, err := newInjector()
	if err != nil {
		return err
	}
	var benches []bench
	for _, p := range chosen {
		these, err := newBenches(p, in)
		if err != nil {
			return fmt.Errorf("%s %s: %w", p.name, p.role, err)
		}
		benches = append(benches, these...)
	}
	for range rounds {
		for i := range benches {
			if err := benches[i].round(in, packets); err != nil {
				return fmt.Errorf("%s %s %s: %w", benches[i].name, benches[i].role, benches[i].lane, err)
			}
		}
	}
	return report(os.Stdout, benches, asJSON)
}
