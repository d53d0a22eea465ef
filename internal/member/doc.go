// Package member takes part in a cluster: it runs the ownership machine against the network, the
// kernel and the clock, and keeps what operators decided the same on all nodes.
//
//	gossip, heartbeats --> detection --> |         | --> kernel (tables), then lease, then messages
//	messages of peers -----------------> | machine |
//	checks, admin state ---------------> |         | --> events
//
// One goroutine owns the machine. What the machine says about the kernel is done before anything of
// it is sent: peers act on what they are told.
package member
