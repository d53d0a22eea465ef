package config

import (
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// duration reads a time with its unit.
func (r *reader) duration(v value, low, high, fallback time.Duration) time.Duration {
	s, ok := r.text(v)
	if !ok {
		return fallback
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil && decimal.MatchString(s):
		r.fail(v, "give a unit, such as "+s+"s or "+s+"ms", "%q is a number, not a time", s)
	case err != nil:
		r.fail(v, "", "%q is not a time such as 250ms, 2s or 1m30s", s)
	case d < low || d > high:
		r.fail(v, "", "%s is not in %s..%s", s, durationText(low), durationText(high))
	default:
		return d
	}
	return fallback
}

// durationText is a time without the zeros that Go puts behind it: 1h, not 1h0m0s.
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// wrong says that an error is about a value.
func (r *reader) wrong(v value) bool {
	return v.given() && slices.ContainsFunc(r.errs, func(e *Error) bool { return e.Path == v.path })
}

// boolean leaves out yes, on and the other words that readers of YAML do not agree on.
func (r *reader) boolean(v value, fallback bool) bool {
	s, ok := r.text(v)
	switch {
	case !ok:
		return fallback
	case v.node.Tag == "!!str" && (s == "true" || s == "false"):
		r.fail(v, "leave out the quotes", "%q is text, not true or false", s)
	case s != "true" && s != "false":
		r.fail(v, "", "%q is not true or false", s)
	default:
		return s == "true"
	}
	return fallback
}

// absolute reads a path that starts at the root and has nothing to resolve; empty when there is none.
func (r *reader) absolute(v value) string {
	s, ok := r.text(v)
	if !ok {
		return ""
	}
	switch {
	case !strings.HasPrefix(s, "/"):
		r.fail(v, "start it with /", "%q is not an absolute path", s)
	case len(s) > maxText || strings.ContainsRune(s, 0) || strings.HasSuffix(s, "/") || path.Clean(s) != s:
		r.fail(v, "", "%q is not the path of a file", s)
	default:
		return s
	}
	return ""
}

// optional is text that says something where it is given.
func (r *reader) optional(v value) (string, bool) {
	s, ok := r.text(v)
	switch {
	case !ok:
		return "", false
	case s == "":
		r.fail(v, "leave it out", "empty")
		return "", false
	case len(s) > maxText:
		r.fail(v, "", "%d bytes are more than %d", len(s), maxText)
		return "", false
	}
	return s, true
}

// A pair is a key and a value of a mapping whose keys are the operator's.
type pair struct {
	key   string
	value value
}

func (r *reader) pairs(v value) ([]pair, bool) {
	if v.node.Kind != yaml.MappingNode {
		r.fail(v, "", "%s, not a mapping", kind(v.node))
		return nil, false
	}
	if n := len(v.node.Content) / 2; n > maxArguments {
		r.fail(v, "", "%d keys are more than %d", n, maxArguments)
		return nil, false
	}
	var pairs []pair
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		place, key := v.node.Content[i], deref(v.node.Content[i])
		if key.Kind != yaml.ScalarNode {
			r.fail(value{place, v.path}, "", "%s, not a key", kind(key))
			continue
		}
		item := deref(v.node.Content[i+1])
		pairs = append(pairs, pair{key.Value, at(value{item, join(v.path, keyText(key.Value))}, value{node: place})})
	}
	return pairs, true
}
