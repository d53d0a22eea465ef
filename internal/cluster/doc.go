// Package cluster keeps track of the nodes of a cluster and carries signed messages between them.
//
// Membership is SWIM gossip (hashicorp/memberlist), encrypted with a key that all nodes share. On
// top of it each node has a key pair of its own: what a node says about itself and every message
// is signed, names the sender's and the receiver's life (a number that grows with each start), and
// is dropped when it is not the newest of its kind. So who knows the shared key, or has recorded
// packets, cannot speak for a node that the others know.
//
// What the shared key alone still allows is to claim that a node is dead. The node has a moment to
// object before that is believed, but somebody who keeps it from objecting wins: nobody should take
// a node's work away on the word of gossip alone, see internal/heartbeat.
package cluster
