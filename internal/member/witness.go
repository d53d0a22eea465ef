package member

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/ownership"
	"github.com/lbctl/lbctl/internal/probe"
)

// asks is how often a witness is asked in the time for which an answer counts: all but one of the
// requests may get lost.
const asks = 4

// A stand is where witnesses speak: it knows when the network was last well, as the witnesses say.
//
// An answer counts for twice Config.HintTime since it was asked for. That is how long a node that is
// not heard any more may go on at most before it notices, and so DeadAfter leaves room for it.
type stand struct {
	member    *Member
	addresses []netip.Addr
	counts    time.Duration

	answered atomic.Int64 // when the newest request that was answered went out, by datapath.Monotonic; 0: none was
	// Of the goroutine that owns the machine:
	spoke bool // the machine was told; what a process before told it is out of date
	told  bool // what it was told last
}

func newStand(m *Member, witnesses []netip.Addr) *stand {
	return &stand{member: m, addresses: witnesses, counts: 2 * m.opts.Machine.HintTime}
}

// answers says whether a witness answers, at a time.
func (s *stand) answers(now time.Duration) bool {
	at := time.Duration(s.answered.Load())
	return at != 0 && now-at < s.counts
}

// look tells the machine when that changed. It does so before every other event, so that no pause of
// this process makes an answer count for longer.
func (s *stand) look() {
	now := s.answers(datapath.Monotonic())
	if s.spoke && now == s.told {
		return
	}
	if now {
		s.member.opts.Log.Info("a witness answers")
	} else if s.told {
		s.member.opts.Log.Warn("no witness answers: no new flows", "witnesses", s.addresses)
	}
	s.spoke, s.told = true, now
	s.member.handleNow(ownership.Witness{Answers: now})
}

// run asks all witnesses until ctx ends. A witness that takes its time is asked again meanwhile.
func (s *stand) run(ctx context.Context) error {
	if len(s.addresses) == 0 {
		return nil
	}
	var asked sync.WaitGroup
	defer asked.Wait()
	tick := time.NewTicker(s.counts / asks)
	defer tick.Stop()
	why := make([]atomic.Pointer[string], len(s.addresses))
	for {
		for i, address := range s.addresses {
			asked.Go(func() { s.ask(ctx, address, &why[i]) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// ask asks a witness once. Why it does not answer is said once, for as long as that stays the same.
func (s *stand) ask(ctx context.Context, address netip.Addr, why *atomic.Pointer[string]) {
	at := datapath.Monotonic()
	limit, cancel := context.WithTimeout(ctx, s.counts)
	defer cancel()
	result := probe.Probe(limit, netip.AddrPortFrom(address, 0), &probe.Spec{Kind: probe.ICMP})
	if result.OK {
		why.Store(nil)
		s.note(at)
		return
	}
	if old := why.Swap(&result.Detail); (old == nil || *old != result.Detail) && ctx.Err() == nil {
		s.member.opts.Log.Warn("a witness does not answer", "witness", address, "err", result.Detail)
	}
}

// note keeps the newest: answers may overtake each other.
func (s *stand) note(at time.Duration) {
	for {
		old := s.answered.Load()
		if int64(at) <= old || s.answered.CompareAndSwap(old, int64(at)) {
			return
		}
	}
}
