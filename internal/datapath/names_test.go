package datapath_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/datapath"
)

// namesOf returns an enum of the object in the words that Go has for it, by number: without the
// enum's prefix and what is no value of its own.
func namesOf(t *testing.T, enum, prefix string) []string {
	t.Helper()
	spec, err := datapath.LoadSpec()
	if err != nil {
		t.Fatal(err)
	}
	return enumNames(t, spec, enum, prefix)
}

func enumNames(t *testing.T, spec *ebpf.CollectionSpec, enum, prefix string) []string {
	t.Helper()
	var e *btf.Enum
	if err := spec.Types.TypeByName(enum, &e); err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, v := range e.Values {
		name, ok := strings.CutPrefix(v.Name, prefix)
		if !ok {
			t.Errorf("%s does not start with %s", v.Name, prefix)
		}
		if name == "COUNT" {
			if int(v.Value) != len(names) {
				t.Errorf("%s is %d, but there are %d values", v.Name, v.Value, len(names))
			}
			return names
		}
		if int(v.Value) != len(names) {
			t.Errorf("%s is %d, not %d", v.Name, v.Value, len(names))
		}
		names = append(names, strings.ReplaceAll(strings.ToLower(name), "_", "-"))
	}
	t.Fatalf("enum %s does not end in %sCOUNT", enum, prefix)
	return nil
}

func TestReasonsAreNamedAsInTheProgram(t *testing.T) {
	var names []string
	for _, r := range datapath.Reasons() {
		names = append(names, r.Name)
		if r.Explanation == "" {
			t.Errorf("%s is not explained", r.Name)
		}
	}
	if diff := cmp.Diff(namesOf(t, "reason", "REASON_"), names); diff != "" {
		t.Errorf("(-C +Go):\n%s", diff)
	}
}

func TestVerbsAreNamedAsInTheProgram(t *testing.T) {
	if diff := cmp.Diff(namesOf(t, "verb", "VERB_"), datapath.Verbs); diff != "" {
		t.Errorf("(-C +Go):\n%s", diff)
	}
}

func TestFlagsAreNamedAsInTheProgram(t *testing.T) {
	spec, err := datapath.LoadSpec()
	if err != nil {
		t.Fatal(err)
	}
	var e *btf.Enum
	if err := spec.Types.TypeByName("bucket_flags", &e); err != nil {
		t.Fatal(err)
	}
	var names []string
	for bit, v := range e.Values {
		if v.Value != 1<<bit {
			t.Errorf("%s is %d, not bit %d", v.Name, v.Value, bit)
		}
		names = append(names, strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(v.Name, "BUCKET_")), "_", "-"))
	}
	if diff := cmp.Diff(names, datapath.FlagNames); diff != "" {
		t.Errorf("(-C +Go):\n%s", diff)
	}
}

// What a reason's verdict says must be what the packets that end there meet.
func TestEveryReasonHasAPacket(t *testing.T) {
	meets := make(map[string]datapath.Verdict)
	for _, fix := range slices.Concat(fixtures(), movingFixtures(), forwardFixtures(), failoverFixtures(), allNATFixtures(), noPortFixtures(), fullFixtures()) {
		verdict := datapath.VerdictPass
		switch {
		case fix.want.action == actionDrop:
			verdict = datapath.VerdictDrop
		case fix.want.on:
			verdict = datapath.VerdictDelegate
		case fix.want.away:
			verdict = datapath.VerdictForward
		case fix.want.action == actionTX:
			verdict = datapath.VerdictAnswer
		case fix.want.own:
			verdict = datapath.VerdictAccept
		}
		if before, ok := meets[fix.want.reason]; ok && before != verdict {
			t.Errorf("%s: a packet meets %s, another %s", fix.want.reason, before, verdict)
		}
		meets[fix.want.reason] = verdict
	}
	for _, fix := range guardFixtures() {
		if fix.want.reason != "" {
			meets[fix.want.reason] = datapath.VerdictGuard
		}
	}
	for _, r := range datapath.Reasons() {
		if meets[r.Name] != r.Verdict {
			t.Errorf("%s means %q, but its packets meet %q", r.Name, r.Verdict, meets[r.Name])
		}
	}
}

// A sentence is a test's name: two of them would be one in a list of failures.
func TestNoTwoPacketsHaveTheSameSentence(t *testing.T) {
	seen := make(map[string]bool)
	for _, fix := range slices.Concat(fixtures(), movingFixtures(), forwardFixtures(), failoverFixtures(), allNATFixtures(), noPortFixtures(), fullFixtures(), guardFixtures()) {
		if seen[fix.sentence] {
			t.Errorf("twice: %s", fix.sentence)
		}
		seen[fix.sentence] = true
	}
}

// No driver hands XDP less than an Ethernet header, and neither does a test run: what the program
// would do with it cannot be tested, and need not be.
func TestTheKernelRefusesFramesWithoutAnEthernetHeader(t *testing.T) {
	instance := instanceOf(t, world())
	frame := v4.tcp(vipMine, portWeb)
	before := count(t, instance)
	for n := range 14 {
		if _, err := instance.Run(frame[:n], ingress); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%d bytes: %v, want %v", n, err, unix.EINVAL)
		}
	}
	sameCounters(t, before, count(t, instance))
}
