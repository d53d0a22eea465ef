package e2e

import (
	"syscall"
	"testing"
)

// Nobody knows of a kill: the kernel takes no new flows when the lease is over, and peers take them
// when they are sure. What is established stays.
func TestKillsOfMembersBreakNothing(t *testing.T) {
	underLoad(t, options{weights: three}, func(c *cluster) {
		for i := range times(100) {
			c.nodes[i%3].restart(syscall.SIGKILL)
			c.agree(t)
		}
	}).wantUnbroken(t)
}
