// Package heartbeat tells the nodes on one link that this node is there, and which others it hears.
//
// A frame goes out on the VIP's own interface about ten times a second, as multicast, with an
// EtherType of its own, no IP and no address to configure: it takes the way that the packets for
// the VIP take, and works when everything above does not. Each frame names the peers that its
// sender heard lately, so that a node learns not only whom it hears but also who hears it.
//
// A frame carries a MAC under the key that all nodes share, so it proves that a node of the
// cluster spoke, and by its counter that it spoke now; it does not prove which one.
package heartbeat
