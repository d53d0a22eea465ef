package datapath_test

import (
	"testing"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/rendezvous"
)

// The short way reads two bits of a bucket, the long way its word.
func TestTheHotPartOfATableSaysWhatItsWordsSay(t *testing.T) {
	builder := rendezvous.NewBuilder()
	instance := instanceOf(t, clusterState(0, subsetTable(builder, 0, [clusterSize]int{})))
	for subset := range 1 << clusterSize {
		table := subsetTable(builder, subset, [clusterSize]int{100, 50, 256, 1, 7})
		if _, err := instance.Set(clusterState(0, table), worldDevice); err != nil {
			t.Fatal(err)
		}
		if n := instance.HotMisfits(); n != 0 {
			t.Errorf("subset %05b: %d buckets differ", subset, n)
		}
	}
}

// Words are written first, so a writer that is killed leaves old bits behind.
func TestAHotPartThatWasNotReachedIsWrittenByTheNextSet(t *testing.T) {
	table := subsetTable(rendezvous.NewBuilder(), 0b11, [clusterSize]int{1, 1})
	instance := instanceOf(t, clusterState(0, table))
	instance.ForgetHot()
	if n := instance.HotMisfits(); n != lb.Buckets {
		t.Fatalf("%d buckets differ, want all %d", n, lb.Buckets)
	}
	written, err := instance.Set(clusterState(0, table), worldDevice)
	if err != nil || written != 0 {
		t.Errorf("%d buckets written, error %v; want none", written, err)
	}
	if n := instance.HotMisfits(); n != 0 {
		t.Errorf("%d buckets differ after Set", n)
	}
}
