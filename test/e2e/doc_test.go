// Package e2e holds the tests of whole clusters: real lbd processes, real sockets, real packets, in
// network namespaces.
package e2e
