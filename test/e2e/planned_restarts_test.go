package e2e

import (
	"syscall"
	"testing"
)

// lbd takes a leave of absence: its peers wait, and the kernel goes on serving.
func TestRestartsAndUpgradesOfMembersLoseNothing(t *testing.T) {
	underLoad(t, options{weights: three}, func(c *cluster) {
		for i := range times(100) {
			n := c.nodes[i%3]
			if i%2 == 0 {
				n.upgrade()
			} else {
				n.restart(syscall.SIGTERM)
			}
		}
		c.agree(t)
	}).wantUnharmed(t)
}
