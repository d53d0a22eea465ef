package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzParse knows two truths: what is refused says why and where, and what is accepted is the same
// after a trip through its effective configuration.
func FuzzParse(f *testing.F) {
	for _, src := range validFiles(f) {
		f.Add(src)
	}
	for name, src := range badFiles(f) {
		if !strings.HasPrefix(name, "large-") {
			f.Add(src)
		}
	}
	f.Add([]byte(small + "services: [{name: a, vips: [], protocol: any, ports: [all]}]\n"))
	f.Add([]byte(small + "vips: &v [{address: 10.0.0.1, mac: 02-00-00-00-00-01}]\nservices: [{name: a, vips: 10.0.0.1, ports: [1-2, \"3\"], hash: source-net, source-net: {ipv4: 32, ipv6: 128}}]\n"))
	f.Add([]byte("\ufeffcluster: ? [a]\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		want, err := ParseFor("n1", "lb.yaml", src)
		if err != nil {
			errs := found(t, err)
			lines := len(splitLines(src))
			for i, e := range errs {
				if e.Message == "" || e.Line < 1 || e.Line > lines || e.Column < 1 {
					t.Errorf("%+v is no place of %d lines", e, lines)
				}
				if i > 0 && e.Line < errs[i-1].Line {
					t.Errorf("line %d is told after line %d", e.Line, errs[i-1].Line)
				}
			}
			return
		}
		got, err := ParseFor("another", "effective.yaml", want.YAML())
		if err != nil {
			t.Fatalf("%v in:\n%s", err, want.YAML())
		}
		if diff := cmp.Diff(want, got, compare); diff != "" {
			t.Error(diff)
		}
		if changes := Diff(want, got); len(changes) > 0 {
			t.Errorf("differs from itself: %v", changes)
		}
	})
}
