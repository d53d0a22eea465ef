package datapath_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/packettest"
)

func TestTheTimerEndsALeaseByItself(t *testing.T) {
	instance := instanceOf(t, movingWorld())
	for _, length := range []time.Duration{time.Millisecond, 50 * time.Millisecond, time.Microsecond, 10 * time.Millisecond} {
		if err := instance.Lease(datapath.Monotonic()+length, true); err != nil && !errors.Is(err, datapath.ErrLapsed) {
			t.Fatal(err)
		}
		lapse(t, instance)
	}
}

// The timer may ring while the lease is still being written.
func TestTheTimerEndsALeaseThatIsOverAtOnce(t *testing.T) {
	instance := instanceOf(t, movingWorld())
	for n := range time.Duration(packettest.Scaled(t, 100_000)) {
		until := datapath.Monotonic() + n%64*100*time.Nanosecond
		if err := instance.Lease(until, true); err != nil && !errors.Is(err, datapath.ErrLapsed) {
			t.Fatal(err)
		}
		lapse(t, instance)
	}
}

func TestALeaseThatHasEndedIsNotRenewed(t *testing.T) {
	instance := instanceOf(t, movingWorld())
	lease(t, instance, datapath.Monotonic()+time.Hour)
	// whether or not the timer has noticed
	for _, notice := range []bool{false, true} {
		instance.SpoilLease(datapath.Monotonic())
		if notice {
			instance.SpoilLease(datapath.LeaseEnded)
		}
		before := instance.LeaseWord()
		for _, until := range []time.Duration{datapath.Monotonic() + time.Hour, datapath.NoLease} {
			if err := instance.Lease(until, false); !errors.Is(err, datapath.ErrLapsed) {
				t.Errorf("noticed %t: renewed with %v", notice, err)
			}
		}
		if got := instance.LeaseWord(); got != before {
			t.Errorf("noticed %t: the lease is %d, was %d", notice, got, before)
		}
		lease(t, instance, datapath.Monotonic()+time.Hour)
		if err := instance.Lease(datapath.NoLease, false); err != nil {
			t.Errorf("a new life: %v", err)
		}
	}
}

// Each renewal comes shortly before the end of the last one, which the timer was set to.
func TestALeaseThatIsRenewedGoesOn(t *testing.T) {
	instance := instanceOf(t, movingWorld())
	const length = 2 * time.Second // a machine that does much else may stop us for a while
	lease(t, instance, datapath.Monotonic()+length)
	for range 5 { // longer than the first one is
		time.Sleep(length / 4)
		if err := instance.Lease(datapath.Monotonic()+length, false); err != nil {
			t.Fatal(err)
		}
	}
	lapse(t, instance)
}

// The timer is in a pinned map: it does not end with who set it.
func TestTheLeaseEndsWithoutTheProcess(t *testing.T) {
	s := newSite(t, "eth0")
	d := s.open(datapath.ModeAuto)
	if err := d.Lease(datapath.NoLease); err == nil {
		t.Error("a lease of nothing")
	}
	s.set(d, served("eth0"))
	s.must(d.Lease(datapath.Monotonic() + 2*time.Second)) // until a busy machine has sent a packet
	s.send(s.client, "eth0", v4.udp(vipMine, portDNS))
	accepted := place{v4.serviceScope("all", vipMine), "accepted"}
	s.eventuallyCounted(accepted, 1)
	d.Close()
	view := s.view()
	nettest.Eventually(t, time.Minute, func() error {
		if lease := view.Lease(); !lease.Lapsed {
			return fmt.Errorf("the lease is %+v", lease)
		}
		return nil
	})
	time.Sleep(50 * time.Millisecond) // the timer rings in a soft interrupt
	s.send(s.client, "eth0", v4.udp(vipMine, portDNS))
	s.eventuallyCounted(place{v4.serviceScope("all", vipMine), "lapsed"}, 1)
	s.eventuallyCounted(accepted, 1)

	// the next process finds it ended, and can begin anew
	d = s.open(datapath.ModeAuto)
	if got := d.CurrentLease(); !got.Lapsed {
		t.Errorf("the next process finds %+v", got)
	}
	if err := d.Lease(datapath.Monotonic() + time.Hour); !errors.Is(err, datapath.ErrLapsed) {
		t.Errorf("the next process renews with %v", err)
	}
	empty := served("eth0")
	empty.Tables = []*lb.Table{{Owners: slices.Repeat([]int16{lb.NoNode}, lb.Buckets)}}
	s.set(d, empty)
	s.must(d.NewLife(datapath.Monotonic() + time.Hour))
	s.set(d, served("eth0"))
	s.send(s.client, "eth0", v4.udp(vipMine, portDNS))
	s.eventuallyCounted(accepted, 2)
}

// A larger map set must not be a way round the lease.
func TestALargerMapSetHasTheSameLease(t *testing.T) {
	s := newSite(t, "eth0")
	d := s.open(datapath.ModeAuto)
	s.set(d, served("eth0"))
	until := datapath.Monotonic() + time.Hour
	s.must(d.Lease(until))
	if report := s.set(d, grown()); !report.Grown {
		t.Fatalf("the map set did not grow: %+v", report)
	}
	if diff := cmp.Diff(datapath.Lease{Until: until}, d.CurrentLease()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A lease that waited for a Set would end while the kernel loads programs.
func TestALeaseDoesNotWaitForASet(t *testing.T) {
	s := newSite(t, "eth0")
	d := s.open(datapath.ModeAuto)
	s.set(d, served("eth0"))
	until := datapath.Monotonic() + time.Hour
	s.must(d.NewLife(until))

	var renewed atomic.Int64
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		for n := time.Duration(1); ; n++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := d.Lease(until + n); err != nil {
				stopped <- err
				return
			}
			if diff := cmp.Diff(datapath.Lease{Until: until + n}, d.CurrentLease()); diff != "" {
				stopped <- fmt.Errorf("renewal %d is lost (-want +got):\n%s", n, diff)
				return
			}
			renewed.Add(1)
		}
	}()
	// each larger than the last: new maps, new programs
	want := served("eth0")
	for n := 8; n <= max(8, packettest.Scaled(t, 64)); n *= 2 {
		for len(want.Tables) < n {
			want.Tables = append(want.Tables, want.Tables[0])
		}
		before := renewed.Load()
		if report := s.set(d, want); !report.Grown {
			t.Errorf("%d tables: the map set did not grow: %+v", n, report)
		}
		if during := renewed.Load() - before; during < 50 {
			t.Errorf("%d tables: only %d renewals while the map set grew", n, during)
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	lease := d.CurrentLease()
	d.Close()
	if got := s.view().Lease(); got != lease {
		t.Errorf("the pinned lease is %+v, not %+v", got, lease)
	}
	if err := d.Lease(until); err == nil {
		t.Error("a lease of what is closed")
	}
}
