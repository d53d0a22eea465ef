// Package sockets knows which connections of this machine end at a VIP: how many in which state,
// from whom, and how to close them. It asks the kernel over sock_diag(7), which leaves out what is
// of no interest before it copies anything.
//
// Functions look at the network namespace of the calling thread. What they return is a moment's
// view that was not taken in one moment: connections come and go while the kernel walks its table.
package sockets
