// Package store keeps the small state that a whole cluster shares and that must survive: who is
// drained, weights set by hand, who was removed. Every node has all of it on its own disk.
//
// An entry is a key with the last value written to it. Which write is the last one is told by
// hybrid logical clocks (Kulkarni, Demirbas et al., "Logical Physical Clocks", OPODIS 2014): the
// wall clock where it agrees with what was seen, one more than what was seen where it lags behind.
// So a write beats everything its writer knew of, whatever its clock says. Of two writes that did
// not know of each other, the one with the later clock wins on all nodes alike; merging is
// idempotent, commutative and associative, and the order in which nodes meet makes no difference.
//
// Nodes exchange [Store.Entries] in the form of [Encode] and give what they hear to [Store.Merge];
// equal [Store.Digest] means that there is nothing to exchange.
package store
