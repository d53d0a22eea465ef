package datapath_test

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
)

// spare are the instances that no test has at the moment. The verifier takes nearly a second for the
// programs, and fifteen in an emulated machine.
var spare []*datapath.Instance

// instanceOf lends a test the programs with a state, in the world's devices.
func instanceOf(t testing.TB, state *lb.State) *datapath.Instance {
	t.Helper()
	return instanceOn(t, state, worldDevice)
}

// instanceOn fails without root, rather than hide the tests.
func instanceOn(t testing.TB, state *lb.State, device func(string) (*net.Interface, error)) *datapath.Instance {
	t.Helper()
	instance, err := lend(t, state, device)
	if err != nil {
		t.Fatalf("load the programs (this needs root): %v", err)
	}
	return instance
}

// lend is datapath.NewInstance until the end of the test.
func lend(t testing.TB, state *lb.State, device func(string) (*net.Interface, error)) (*datapath.Instance, error) {
	t.Helper()
	i := slices.IndexFunc(spare, func(instance *datapath.Instance) bool { return instance.IsFor(state) })
	if i < 0 {
		instance, err := datapath.NewInstance(state, device)
		if err == nil {
			t.Cleanup(func() { spare = append(spare, instance) })
		}
		return instance, err
	}
	instance := spare[i]
	spare = slices.Delete(spare, i, i+1)
	t.Cleanup(func() { spare = append(spare, instance) })
	return instance, instance.Renew(state, device)
}

// longWay is the program that goes the long way, whatever the frame.
func longWay(t testing.TB, instance *datapath.Instance) *ebpf.Program {
	t.Helper()
	program, err := instance.Long()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// What a test finds in an instance must not depend on the tests before it.
func TestARenewedInstanceIsLikeANewOne(t *testing.T) {
	instance, err := datapath.NewInstance(forwardWorld(), worldDevice)
	if err != nil {
		t.Fatal(err)
	}
	defer instance.Close()
	fresh := contents(t, instance)
	if err := instance.Lease(datapath.Monotonic()+time.Hour, true); err != nil {
		t.Fatal(err)
	}
	if err := instance.Scribble(); err != nil {
		t.Fatal(err)
	}
	for name, content := range contents(t, instance) {
		if content == fresh[name] && name != "lease" && name != "news" && name != "drops" {
			t.Errorf("map %s is as before", name)
		}
	}
	if err := instance.Renew(forwardWorld(), worldDevice); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fresh, contents(t, instance)); diff != "" {
		t.Errorf("(-new +renewed):\n%s", diff)
	}
}

// contents is a text for what each map holds.
func contents(t *testing.T, instance *datapath.Instance) map[string]string {
	t.Helper()
	all, err := instance.Rest()
	if err != nil {
		t.Fatal(err)
	}
	for name, is := range memory(t, instance) {
		all[name] += fmt.Sprintf(" %d entries, %x", is.Entries, is.Content)
	}
	return all
}
