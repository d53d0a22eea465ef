// Package announce tells neighbours which machine has an address: by gratuitous ARP (RFC 5227 section 3,
// and the reply form for those that believe only that) and by unsolicited neighbor advertisements (RFC
// 4861 section 7.2.6). A node that gets an address says so at once, again for some seconds, because any
// frame can be lost, and then once a minute, so that switches do not forget where a virtual MAC is.
package announce
