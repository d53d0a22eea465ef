// Package probe finds out whether a service works, by using it.
//
// Probe tries once, in one of the ways that Kinds lists. A Runner probes all checks of a node, each
// at its time, and keeps their states.
//
// What a probe found is told in words for somebody who was woken by it: "connect: connection
// refused", "status 503, want 200-299", "certificate expires in 3 days, want 14".
package probe
