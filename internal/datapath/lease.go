package datapath

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// UDPIdle is how long a UDP flow may be silent and still be known, where buckets are marked for UDP.
const UDPIdle = time.Duration(lbLimitsUDP_IDLE_SECONDS) * time.Second

// NoLease is a lease that never ends: that of a node without peers.
const NoLease time.Duration = 0

// ErrLapsed means that the lease ended, and with it all that this node may hold. Lease cannot bring
// it back: take everything out of the tables' hands by Set, then begin a NewLife.
var ErrLapsed = errors.New("the lease has ended")

var errNoState = errors.New("no state was set yet")

// A Lease is until when the program takes new flows.
type Lease struct {
	Until  time.Duration // on the clock of Monotonic; NoLease when none is needed or Lapsed
	Lapsed bool
}

// leaseEnded is LEASE_ENDED of lease.h.
const leaseEnded = 1

// Monotonic is CLOCK_MONOTONIC, which the program measures the lease by. It stands still while the
// machine is suspended, as does everything else.
func Monotonic() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // fails for no clock that exists
	return time.Duration(ts.Nano())
}

// Lease lets the program take new flows until that time of Monotonic, or always with NoLease. After
// it the program takes none, whatever becomes of this process; established connections go on. The
// time must have been read before the conditions for the lease were checked. Answers ErrLapsed,
// and changes nothing, when the last one ended before.
func (d *Datapath) Lease(until time.Duration) error { return d.renew(until, false) }

// NewLife is Lease for a node that holds nothing: an end of the last lease is forgotten.
func (d *Datapath) NewLife(until time.Duration) error { return d.renew(until, true) }

func (d *Datapath) renew(until time.Duration, anew bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.programs == nil {
		return errNoState
	}
	if until != NoLease && until <= leaseEnded {
		return ErrLapsed
	}
	return renewLease(d.programs.Programs["lb_lease"], until, anew)
}

// CurrentLease reads what the kernel goes by; the zero Lease before the first Set.
func (d *Datapath) CurrentLease() Lease {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.maps == nil {
		return Lease{}
	}
	return d.maps.lease()
}

// Lease reads what the kernel goes by.
func (v *View) Lease() Lease { return v.set.lease() }

func (s *mapSet) lease() Lease {
	until := atomic.LoadUint64(&s.published().Lease)
	switch {
	case until == 0:
		return Lease{}
	case until == leaseEnded || time.Duration(until) <= Monotonic():
		return Lease{Lapsed: true}
	}
	return Lease{Until: time.Duration(until)}
}

func renewLease(program *ebpf.Program, until time.Duration, anew bool) error {
	request := lbLeaseRequest{Until: uint64(until)}
	if anew {
		request.Anew = 1
	}
	var packet bytes.Buffer
	if err := binary.Write(&packet, binary.NativeEndian, &request); err != nil {
		return fmt.Errorf("encode lease: %w", err)
	}
	answer, err := program.Run(&ebpf.RunOptions{Data: packet.Bytes()})
	if err != nil {
		return fmt.Errorf("renew lease: %w", err)
	}
	switch lbLeaseAnswer(answer) {
	case lbLeaseAnswerLEASE_RUNS:
		return nil
	case lbLeaseAnswerLEASE_LAPSED:
		return ErrLapsed
	case lbLeaseAnswerLEASE_FAILED:
	}
	return errors.New("renew lease: the kernel gave no timer")
}

// inheritLease makes the lease of a map set that is replaced that of the new one, before any packet
// meets it.
func (s *mapSet) inheritLease(old *mapSet, programs *ebpf.Collection) error {
	lease := old.lease()
	if lease.Lapsed {
		atomic.StoreUint64(&s.published().Lease, leaseEnded)
		return nil
	}
	err := renewLease(programs.Programs["lb_lease"], lease.Until, true)
	if errors.Is(err, ErrLapsed) {
		return nil // just now, as the new set knows
	}
	return err
}
