// Package balance decides which backend the flows of each slot of a service go to, so that what
// lives stays where it is while backends come, go, fail and change their weights.
//
// A Service is given all that bears on its backends and answers with an lb.Choice. It is pure: it
// has no clock, and does no I/O. Where new flows should go follows from the inputs alone
// (internal/maglev), so directors with equal inputs agree without talking; only when a slot's flows
// are at rest there may differ.
//
// # Slots in transition
//
// Nothing is remembered of the flows of a slot at rest: all are at its current backend. When another
// one should have the slot,
//
//   - and the current one is dead, it gets the slot at once. There is nothing to keep.
//   - UDP: the slot is noting for as long as a flow may be silent. Then the datapath knows its flows
//     and it can change. New ones go to the old backend until then.
//   - TCP: it changes at once and is moving. Connections that are opened are remembered by the
//     datapath; what is unknown is older, belongs to the previous backend, and is remembered when
//     it is seen. Who said nothing for the longest time that a connection may be silent is forgotten.
//   - Then the slot has exceptions: what the datapath remembers goes where it is written, all else to
//     the current backend, until the datapath has no such flow any more.
//
// A moving slot can change again. Its previous backend stays: what nothing is known of can only be
// older than the first change, as all that was opened later is remembered.
package balance
