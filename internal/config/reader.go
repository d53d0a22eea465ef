package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// A reader walks the nodes of a file and collects what is wrong on the way.
type reader struct {
	file string
	errs Errors
	// partial says that some VIP could not be read. Whether one that a service names exists is
	// not known then.
	partial bool
	// toldStatic says that nothing more is to be said about what has no use without membership.
	toldStatic bool
	servers    int                       // backends, of all services
	replies    map[reply]string          // services with NAT by what their backends' replies come from
	patterns   map[string]*regexp.Regexp // by their text
}

// A value is a node and the path that leads to it. A value without node was not given.
type value struct {
	node *yaml.Node
	path string
}

func (v value) given() bool { return v.node != nil && v.node.Tag != "!!null" }

// full says that there are more errors than anybody reads. From here on nothing new is looked at,
// so that a file made of nothing but errors costs no more than others.
func (r *reader) full() bool { return len(r.errs) >= maxErrors }

func (r *reader) fail(v value, hint, format string, args ...any) {
	if r.full() {
		return
	}
	for i, arg := range args {
		if s, ok := arg.(string); ok {
			args[i] = shortened(s)
		}
	}
	e := &Error{File: r.file, Line: 1, Column: 1, Path: v.path, Message: fmt.Sprintf(format, args...), Hint: hint}
	if v.node != nil {
		e.Line, e.Column = v.node.Line, v.node.Column
	}
	r.errs = append(r.errs, e)
}

// suggest is left out once nobody will read it: with a thousand VIPs it is what costs most.
func (r *reader) suggest(word string, known []string) string {
	if r.full() {
		return ""
	}
	return suggest(word, known)
}

// shortened keeps a value that is a page long from filling the message.
func shortened(s string) string {
	runes := []rune(s)
	if len(runes) <= maxShown {
		return s
	}
	return string(runes[:maxShown-1]) + "…"
}

// at gives a value that is missing the place of what it is missing from.
func at(v, parent value) value {
	if v.node == nil && parent.node != nil {
		v.node = &yaml.Node{Line: parent.node.Line, Column: parent.node.Column, Tag: "!!null"}
	}
	return v
}

// deref follows an alias. One that stands inside its own anchor is no loop here: the walk is only
// as deep as the schema.
func deref(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// fields splits a mapping into its known keys, and says whether it is one. What was not given is a
// value without node.
func (r *reader) fields(v value, known ...string) (map[string]value, bool) {
	fields := make(map[string]value)
	for _, key := range known {
		fields[key] = value{path: join(v.path, key)}
	}
	switch {
	case r.full():
		return fields, false
	case !v.given():
		return fields, true
	}
	if v.node.Kind != yaml.MappingNode {
		r.fail(v, "", "%s, not a mapping of %s", kind(v.node), strings.Join(known, ", "))
		return fields, false
	}
	first := make(map[string]*yaml.Node)
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		place, key := v.node.Content[i], deref(v.node.Content[i])
		if key.Kind != yaml.ScalarNode {
			r.fail(value{place, v.path}, "", "%s, not a key", kind(key))
			continue
		}
		at := value{place, join(v.path, keyText(key.Value))}
		switch _, ok := fields[key.Value]; {
		case !ok:
			r.fail(at, r.suggest(key.Value, known), "unknown key")
		case first[key.Value] != nil:
			r.fail(at, "", "given twice, first in line %d", first[key.Value].Line)
		default:
			first[key.Value] = place
			fields[key.Value] = value{deref(v.node.Content[i+1]), at.path}
		}
	}
	return fields, true
}

// keyText is a key as a part of a path; one that is not a word is quoted.
func keyText(key string) string {
	for _, c := range key {
		if c <= ' ' || c > '~' || strings.ContainsRune(`.[]":`, c) {
			return strconv.Quote(shortened(key))
		}
	}
	if key == "" {
		return `""`
	}
	return shortened(key)
}

// items splits a sequence, and says whether it is one; what was not given is an empty one. A single
// value is a sequence of one where lone allows it.
func (r *reader) items(v value, lone bool) ([]value, bool) {
	if !v.given() {
		return nil, true
	}
	if v.node.Kind != yaml.SequenceNode {
		if lone && v.node.Kind == yaml.ScalarNode {
			return []value{v}, true
		}
		r.fail(v, "", "%s, not a list", kind(v.node))
		return nil, false
	}
	if n := len(v.node.Content); n > maxItems {
		r.fail(v, "", "%d items are more than any list can have", n)
		return nil, false
	}
	if r.full() {
		return nil, false
	}
	var items []value
	for i, n := range v.node.Content {
		items = append(items, value{deref(n), fmt.Sprintf("%s[%d]", v.path, i)})
	}
	return items, true
}

// some is items of a sequence, or of a single value, that has to be there: one at least, and most at most.
func (r *reader) some(v value, one, many string, most int) ([]value, bool) {
	items, ok := r.items(v, true)
	switch {
	case !ok:
		return nil, false
	case !v.given():
		r.fail(v, "", "missing")
	case len(items) == 0:
		r.fail(v, "", "names no %s", one)
	case len(items) > most:
		r.fail(v, "", "%d %s are more than %d", len(items), many, most)
	default:
		return items, true
	}
	return nil, false
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

// required is text that must be there.
func (r *reader) required(v value) (string, bool) {
	if !v.given() {
		r.fail(v, "", "missing")
		return "", false
	}
	return r.text(v)
}

// decimal leaves out what readers of YAML do not agree on: 010, 0x10, 1_000, +1.
var decimal = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

func (r *reader) integer(v value, low, high, fallback int) int {
	s, ok := r.text(v)
	if !ok {
		return fallback
	}
	n, err := strconv.Atoi(s)
	switch {
	case !decimal.MatchString(s):
		r.fail(v, "", "%q is not a whole number in decimal digits", s)
	case v.node.Tag == "!!str":
		r.fail(v, "leave out the quotes", "%q is text, not a number", s)
	case err != nil || n < low || n > high:
		r.fail(v, "", "%s is not in %d..%d", s, low, high)
	default:
		return n
	}
	return fallback
}

// word returns one of the known words.
func (r *reader) word(v value, fallback string, known ...string) string {
	s, ok := r.text(v)
	if !ok {
		return fallback
	}
	if slices.Contains(known, s) {
		return s
	}
	r.fail(v, r.suggest(s, known), "%q is not one of %s", s, strings.Join(known, ", "))
	return fallback
}

// name returns a name of letters, digits and extra that starts and ends with a letter or digit.
func (r *reader) name(v value, extra string, longest int) string {
	s, ok := r.required(v)
	if !ok {
		return ""
	}
	valid := s != "" && len(s) <= longest
	for i, c := range s {
		alphanumeric := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		inside := i > 0 && i < len(s)-1 && strings.ContainsRune(extra, c)
		valid = valid && (alphanumeric || inside)
	}
	if !valid {
		r.fail(v, "", "%q is not a name: 1 to %d of a-z, 0-9 and %s, the first and the last a letter or digit",
			s, longest, strings.Join(strings.Split(extra, ""), " and "))
	}
	return s
}

func (r *reader) address(v value) netip.Addr {
	s, ok := r.required(v)
	if !ok {
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
	unusable := func(c rune) bool { return c == '/' || c == ':' || unicode.IsSpace(c) || unicode.IsControl(c) }
	if s == "" || len(s) > maxNetName || s == "." || s == ".." || strings.ContainsFunc(s, unusable) {
		hint := fmt.Sprintf("1 to %d bytes, none of them a space, / or :", maxNetName)
		r.fail(v, hint, "%q is not the name of an interface", s)
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
	default:
		return "a single value"
	}
}
