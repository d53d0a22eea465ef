// Package ownership decides which node accepts the new flows of which bucket, and since when.
//
// A Machine is one node's part of the agreement: a pure state machine, events in, actions out. It
// has no goroutine, no clock and does no I/O; its driver tells it the time with every event, applies
// what it answers to the kernel, and carries its messages.
//
// # Words
//
// A node's life is one incarnation of its Machine: a number that grows, whatever happens. What a
// node says about itself is its record; what a node knows is the latest record of everybody, and
// which lives are dead. Knowledge only grows, and its fingerprint tells whether two nodes know the
// same. A domain is an ownership table: services with the same eligibility share one, and "" is the
// table of the VIPs themselves.
//
// # Rules
//
// Where a bucket should be follows from knowledge alone (internal/rendezvous). Where it is, is a
// token: at most one node holds it. It moves from its holder O to N by Offer, Taken, Released, and
// while that lasts O sends new flows on to N; it is made anew, after a crash, by the node that
// should have it, when all nodes that are alive in its knowledge have granted that under the same
// knowledge. Deaths are agreed upon, and a node's lease in its kernel ends before anybody may do
// with its tokens as with those of a dead one. Why that is enough is written down in
// internal/decisions/0008-one-token-per-bucket.md, and the simulation in this package looks for the
// schedule that proves it wrong.
package ownership
