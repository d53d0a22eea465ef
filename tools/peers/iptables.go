package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// nodes share the VIP in every peer's set-up.
const nodes = 3

// clusterIP sets a node up by the rule of iptables-extensions(8). Being all nodes or none takes
// the same way as being one of them: the target tests a bit of a mask.
func clusterIP(responsible []int) func(*namespace) error {
	return func(*namespace) error {
		const self = 1
		err := iptables("-t", "filter", "-A", "INPUT", "-i", receiver, "-d", vip, "-p", "udp",
			"-j", "CLUSTERIP", "--new", "--hashmode", "sourceip-sourceport", "--clustermac", clusterMAC,
			"--total-nodes", strconv.Itoa(nodes), "--local-node", strconv.Itoa(self), "--hash-init", "0")
		if err != nil {
			return err
		}
		for node := 1; node <= nodes; node++ {
			command := ""
			switch wanted := slices.Contains(responsible, node); {
			case wanted && node != self:
				command = "+"
			case !wanted && node == self:
				command = "-"
			default:
				continue
			}
			file := "/proc/thread-self/net/ipt_CLUSTERIP/" + vip
			if err := os.WriteFile(file, []byte(command+strconv.Itoa(node)), 0); err != nil {
				return err
			}
		}
		return nil
	}
}

// xtCluster drops by one rule. The recipe of iptables-extensions(8) sets a mark in one rule and
// drops by it in a second; this is the cheaper way to the same end.
func xtCluster(responsible bool) func(*namespace) error {
	return func(*namespace) error {
		rule := []string{"-t", "mangle", "-A", "PREROUTING", "-i", receiver, "-d", vip, "-m", "cluster"}
		if responsible {
			rule = append(rule, "!") // drop what is not for any of the three: nothing
		}
		return iptables(append(rule, "--cluster-local-nodemask", strconv.Itoa(1<<nodes-1),
			"--cluster-total-nodes", strconv.Itoa(nodes), "--cluster-hash-seed", "0xdeadbeef", "-j", "DROP")...)
	}
}

// iptables runs in the namespace of the calling thread. It has to be the legacy one: nftables'
// iptables cannot speak to the target CLUSTERIP.
func iptables(args ...string) error {
	out, err := exec.Command("iptables-legacy", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("iptables-legacy %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
