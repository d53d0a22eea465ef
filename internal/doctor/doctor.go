// Package doctor looks at a machine for the mistakes that are usually made with backends and directors,
// and says how each is put right. It changes nothing.
//
// All calls look at the network namespace of the calling thread.
package doctor

import (
	"fmt"
	"net/netip"
	"slices"
)

// A Finding is one thing that was looked at.
type Finding struct {
	Check string `json:"check"` // what was looked at: vip, arp, shared, rp-filter, ndp, gateway, tunnel, mtu, link, route,
	// routing, redirects, masquerade, clients
	Subject string   `json:"subject"` // of what: an address, an interface, a backend
	OK      bool     `json:"ok"`
	Found   string   `json:"found"`         // what is there, and what is wrong with it
	Fix     []string `json:"fix,omitempty"` // commands, or what to do in words
}

// A report is what was found so far.
type report []Finding

func (r *report) ok(check, subject, format string, args ...any) {
	*r = append(*r, Finding{Check: check, Subject: subject, OK: true, Found: fmt.Sprintf(format, args...)})
}

func (r *report) wrong(check, subject, found string, fix ...string) {
	*r = append(*r, Finding{Check: check, Subject: subject, Found: found, Fix: fix})
}

func anyOf(family func(netip.Addr) bool, list []netip.Addr) bool {
	return slices.ContainsFunc(list, family)
}
