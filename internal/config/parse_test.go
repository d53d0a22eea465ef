package config

import (
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var compare = cmp.Options{
	cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
	cmp.Comparer(func(a, b *regexp.Regexp) bool { return a == b || a != nil && b != nil && a.String() == b.String() }),
}

func reference(t *testing.T) []byte {
	t.Helper()
	src, err := os.ReadFile("../../deploy/lb.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// backendReference is the file of the other role.
func backendReference(t *testing.T) []byte {
	t.Helper()
	src, err := os.ReadFile("../../deploy/backend.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func TestTheReferenceFileIsValid(t *testing.T) {
	if _, err := Parse("lb.yaml", reference(t)); err != nil {
		t.Error(err)
	}
}

// A line that is commented out and looks like "key: value" states a default: a file that says so
// is the same file.
func TestTheReferenceFileStatesTheDefaults(t *testing.T) {
	statesTheDefaults(t, string(reference(t)))
	statesTheDefaults(t, string(backendReference(t)))
}

func statesTheDefaults(t *testing.T, src string) {
	t.Helper()
	var spelled []string
	for line := range strings.Lines(src) {
		rest := strings.TrimLeft(line, " ")
		if key, value, ok := strings.Cut(strings.TrimPrefix(rest, "# "), ": "); ok && strings.HasPrefix(rest, "# ") &&
			!strings.ContainsAny(key, " .") && !strings.Contains(strings.TrimSpace(value), " ") {
			line = strings.Replace(line, "# ", "", 1)
		}
		spelled = append(spelled, line)
	}
	want, err := Parse("lb.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse("lb.yaml", []byte(strings.Join(spelled, "")))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("what is commented out is not the default (-default +stated):\n%s", diff)
	}
}

func TestTheEffectiveConfigurationParsesToItself(t *testing.T) {
	want, err := Parse("lb.yaml", reference(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse("effective.yaml", want.YAML())
	if err != nil {
		t.Fatalf("%v in:\n%s", err, want.YAML())
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Error(diff)
	}
}
