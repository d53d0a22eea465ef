package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/lbctl/lbctl/internal/lb"
)

// A BackendRole is what a machine does that is no node: it serves what directors forward to it.
type BackendRole struct {
	Interface string       // by which the directors' packets come
	Method    lb.Forward   // lb.ForwardDR, or lb.ForwardTunnel, which takes both
	Directors []netip.Addr // of lb.ForwardTunnel: whose tunnels are taken off
	VIPs      []netip.Addr
}

// The roles of a machine.
const (
	roleNode    = "node"
	roleBackend = "backend"
)

// maxDirectors is the number of addresses that tunnels may come from: two of each node.
const maxDirectors = 2 * lb.MaxNodes

// isBackend says whether the file is a backend's, which has keys of its own.
func (r *reader) isBackend(root value) bool {
	if !root.given() {
		return false
	}
	for i := 0; i+1 < len(root.node.Content); i += 2 {
		if key, word := deref(root.node.Content[i]), deref(root.node.Content[i+1]); key.Value == "role" {
			return word.Value == roleBackend
		}
	}
	return false
}

func (r *reader) backend(root value) *Config {
	c := defaults()
	f, ok := r.fields(root, "role", "interface", "attach", "shutdown", "method", "directors", "vips")
	if !ok {
		return nil
	}
	c.SampleDrops = 0
	c.Attach = r.word(f["attach"], c.Attach, "auto", "native", "generic")
	c.Shutdown = Shutdown(r.word(f["shutdown"], string(c.Shutdown), string(Leave), string(Withdraw)))
	b := &BackendRole{Interface: r.interfaceName(f["interface"])}
	if !f["interface"].given() {
		r.fail(at(f["interface"], root), "", "missing")
	}
	dr, tunnel := lb.ForwardDR.String(), lb.ForwardTunnel.String()
	b.Method = lb.ForwardDR
	if r.word(f["method"], dr, dr, tunnel) == tunnel {
		b.Method = lb.ForwardTunnel
	}
	b.VIPs = r.distinct(at(f["vips"], root), maxVIPs, "VIP")
	switch {
	case b.Method == lb.ForwardTunnel:
		b.Directors = r.distinct(at(f["directors"], root), maxDirectors, "director")
	case f["directors"].given():
		r.fail(f["directors"], "leave it out, or give method: tunnel", "only tunnels are taken from some directors and not from others")
	}
	for _, a := range b.Directors {
		if slices.Contains(b.VIPs, a) {
			r.fail(f["directors"], "", "%s is a VIP; a director's tunnels come from an address of its own", a)
		}
	}
	c.Backend = b
	return &c
}

// distinct reads addresses, at least one and none twice.
func (r *reader) distinct(v value, most int, what string) []netip.Addr {
	items, ok := r.items(v, true)
	switch {
	case !ok:
		return nil
	case len(items) == 0:
		r.fail(v, "", "names no %s", what)
	case len(items) > most:
		r.fail(v, "", "%d addresses are more than %d", len(items), most)
		return nil
	}
	var list []netip.Addr
	for _, item := range items {
		a := r.address(item)
		switch {
		case !a.IsValid():
		case slices.Contains(list, a):
			r.fail(item, "", "%s is given twice", a)
		default:
			list = append(list, a)
		}
	}
	return list
}

// settings are the keys that only a backend's file has.
func (b *BackendRole) settings() []setting {
	return given([]setting{
		{"role", roleBackend},
		{"interface", quoted(b.Interface)},
		{"method", b.Method.String()},
		{"directors", inline(b.Directors, netip.Addr.String)},
		{"vips", inline(b.VIPs, netip.Addr.String)},
	})
}

func (c *Config) backendYAML() []byte {
	var b strings.Builder
	block(&b, "", "", c.Backend.settings())
	fmt.Fprintf(&b, "attach: %s\nshutdown: %s\n", c.Attach, c.Shutdown)
	return []byte(b.String())
}

func (c *Config) backendLeaves() map[string]string {
	m := map[string]string{"attach": c.Attach, "shutdown": string(c.Shutdown)}
	leavesOf(m, "", c.Backend.settings())
	return m
}
