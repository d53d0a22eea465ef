package member

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/ownership"
)

// resume returns the machine of the process before, when that took a leave of absence that lasts.
func (m *Member) resume() (*ownership.Machine, error) {
	snapshot, err := os.ReadFile(m.opts.Snapshot)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.New("it took no leave")
	}
	if err != nil {
		return nil, err
	}
	// it counts once: a copy that came back later would hold what others hold by then
	if err := os.Remove(m.opts.Snapshot); err != nil {
		return nil, err
	}
	return ownership.Restore(m.opts.Machine, snapshot, datapath.Monotonic())
}

// Absence asks the peers to wait for this node, so that its lbd can restart without losing a bucket.
// After it returned nil the process should end: nothing is taken part in any more.
func (m *Member) Absence(ctx context.Context, d time.Duration) error {
	if err := m.ask(ctx, ownership.Absence{For: d}, ownership.HappeningAbsent, ownership.HappeningAbsenceRefused); err != nil {
		return err
	}
	for _, link := range m.links {
		link.SetAbsence(d)
	}
	var failed error
	err := m.within(ctx, func() {
		m.finished = true
		failed = renameio.WriteFile(m.opts.Snapshot, m.machine.Snapshot(), 0o600)
	})
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("keep the life for the next process: %w", err)
	}
	return m.work.idle(ctx)
}

// Leave hands everything over to the peers, for good.
func (m *Member) Leave(ctx context.Context) error {
	return m.ask(ctx, ownership.Leave{}, ownership.HappeningLeft)
}

// ask gives the machine an event and waits for one of the happenings that answer it; all but the first
// mean no.
func (m *Member) ask(ctx context.Context, event ownership.Event, answers ...ownership.Kind) error {
	answer := make(chan ownership.Happening, 1)
	err := m.within(ctx, func() {
		m.waiting = func(h ownership.Happening) {
			if slices.Contains(answers, h.Kind) {
				m.waiting = nil
				answer <- h
			}
		}
		m.handle(event)
	})
	if err != nil {
		return err
	}
	select {
	case h := <-answer:
		if h.Kind != answers[0] {
			return fmt.Errorf("refused: %s", h.Reason)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
