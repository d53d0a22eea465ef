// Package health decides from the results of checks whether a service gets new flows.
//
// A Machine turns the results of one check into a state. One result changes nothing: Fall failures
// in a row take a check down, Rise successes in a row bring it up. So a check of a service that
// broke tells so after Fall intervals and one timeout at most, and a single lost packet costs
// nothing. Where a check starts has consequences of its own:
//
//   - Up: a node that starts serves at once. If its service is broken, it takes new flows until
//     Fall probes failed. Right where a restart of the daemon must not move flows.
//   - Down: a node that starts serves nothing before Rise probes succeeded. Right where a service
//     may come up later than the daemon.
//   - Unknown: the first result decides alone, and until then the node serves nothing. Right where
//     a start should be both quick and sure.
//
// The checks of a service are one of three things that say independently of each other what it
// gets; the others are what people decided and what an agent on the node says. A Service combines
// them.
//
// Nothing here has a clock or acts: each call says what time it is.
package health
