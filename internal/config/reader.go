package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// A reader walks the nodes of a file and collects what is wrong on the way.
type reader struct {
	file string
	errs Errors
}

// A value is a node and the path that leads to it. A value without node was not given.
type value struct {
	node *yaml.Node
	path string
}

func (v value) given() bool { return v.node != nil && v.node.Tag != "!!null" }

func (r *reader) fail(v value, hint, format string, args ...any) {
	e := &Error{File: r.file, Line: 1, Column: 1, Path: v.path, Message: fmt.Sprintf(format, args...), Hint: hint}
	if v.node != nil {
		e.Line, e.Column = v.node.Line, v.node.Column
	}
	r.errs = append(r.errs, e)
}

// deref follows an alias. Anchors of this file only, and yaml refuses cycles.
func deref(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// fields splits a mapping into its known keys. What was not given is a value at the mapping's place.
func (r *reader) fields(v value, known ...string) map[string]value {
	fields := make(map[string]value)
	for _, key := range known {
		fields[key] = value{path: join(v.path, key)}
	}
	if !v.given() {
		return fields
	}
	if v.node.Kind != yaml.MappingNode {
		r.fail(v, "", "%s, not a mapping of %s", kind(v.node), strings.Join(known, ", "))
		return fields
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key, content := v.node.Content[i], deref(v.node.Content[i+1])
		at := value{key, join(v.path, key.Value)}
		before, ok := fields[key.Value]
		switch {
		case !ok:
			r.fail(at, suggest(key.Value, known), "unknown key")
		case before.node != nil:
			r.fail(at, "", "given twice, first in line %d", before.node.Line)
		default:
			fields[key.Value] = value{content, at.path}
		}
	}
	return fields
}

// items splits a sequence; a single value is a sequence of one where lone allows it.
func (r *reader) items(v value, lone bool) []value {
	if !v.given() {
		return nil
	}
	if v.node.Kind != yaml.SequenceNode {
		if lone && v.node.Kind == yaml.ScalarNode {
			return []value{v}
		}
		r.fail(v, "", "%s, not a list", kind(v.node))
		return nil
	}
	var items []value
	for i, n := range v.node.Content {
		items = append(items, value{deref(n), fmt.Sprintf("%s[%d]", v.path, i)})
	}
	return items
}

// text returns a scalar's text, and whether there is one.
func (r *reader) text(v value) (string, bool) {
	if !v.given() {
		return "", false
	}
	if v.node.Kind != yaml.ScalarNode {
		r.fail(v, "", "%s, not a single value", kind(v.node))
		return "", false
	}
	return v.node.Value, true
}

func (r *reader) integer(v value, low, high, fallback int) int {
	s, ok := r.text(v)
	if !ok {
		return fallback
	}
	n, err := strconv.Atoi(s)
	if err != nil || v.node.Tag != "!!int" {
		r.fail(v, "", "%q is not a whole number", s)
		return fallback
	}
	if n < low || n > high {
		r.fail(v, "", "%d is not in %d..%d", n, low, high)
		return fallback
	}
	return n
}

// word returns one of the known words.
func (r *reader) word(v value, fallback string, known ...string) string {
	s, ok := r.text(v)
	if !ok {
		return fallback
	}
	for _, k := range known {
		if s == k {
			return s
		}
	}
	hint := suggest(s, known)
	r.fail(v, hint, "%q is not one of %s", s, strings.Join(known, ", "))
	return fallback
}

// name returns a name of letters, digits and extra that starts and ends with a letter or digit.
func (r *reader) name(v value, extra string, longest int) string {
	s, ok := r.text(v)
	if !ok {
		r.fail(v, "", "missing")
		return ""
	}
	valid := s != "" && len(s) <= longest
	for i, c := range s {
		alphanumeric := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		inside := i > 0 && i < len(s)-1 && strings.ContainsRune(extra, c)
		valid = valid && (alphanumeric || inside)
	}
	if !valid {
		r.fail(v, "", "%q is not a name of 1 to %d lower-case letters, digits and %q", s, longest, extra)
	}
	return s
}

func (r *reader) address(v value) netip.Addr {
	s, ok := r.text(v)
	if !ok {
		r.fail(v, "", "missing")
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil && strings.Contains(s, "/"):
		r.fail(v, "", "%q is not an address: leave out the prefix length", s)
	case err != nil:
		r.fail(v, "", "%q is not an IPv4 or IPv6 address", s)
	case a.Zone() != "":
		r.fail(v, "", "%q has a zone; such an address is no use to clients", s)
	case a.Is4In6():
		r.fail(v, "", "%q is an IPv4 address in IPv6 form; write %s", s, a.Unmap())
	case a.IsUnspecified(), a.IsMulticast(), a.IsLoopback(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		r.fail(v, "", "%s is not an address of a machine", a)
	default:
		return a
	}
	return netip.Addr{}
}

// mac returns a link-layer address of six bytes, or nil when there is none or it is wrong.
func (r *reader) mac(v value) net.HardwareAddr {
	s, ok := r.text(v)
	if !ok {
		return nil
	}
	m, err := net.ParseMAC(s)
	switch {
	case err != nil || len(m) != 6:
		r.fail(v, "", "%q is not a MAC of six bytes", s)
	case m.String() == "00:00:00:00:00:00" || m.String() == "ff:ff:ff:ff:ff:ff":
		r.fail(v, "", "%s is not the MAC of anything", m)
	default:
		return m
	}
	return nil
}

func (r *reader) interfaceName(v value) string {
	s, ok := r.text(v)
	if !ok {
		return ""
	}
	if s == "" || len(s) > maxNetName || s == "." || s == ".." || strings.ContainsAny(s, "/ :\t\n") {
		r.fail(v, "", "%q is not the name of an interface", s)
		return ""
	}
	return s
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}
