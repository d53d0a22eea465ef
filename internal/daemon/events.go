package daemon

import (
	"sync"
	"time"

	"github.com/lbctl/lbctl/internal/control"
)

// keptEvents is how many are kept for lbctl: an hour of a cluster that has a bad day.
const keptEvents = 1000

// A history keeps what happened lately. It is safe for concurrent use.
type history struct {
	mu   sync.Mutex
	last uint64
	kept []control.Event
}

// add numbers an event and keeps it.
func (h *history) add(e control.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	e.Number = h.last
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	h.kept = append(h.kept, e)
	if len(h.kept) > keptEvents {
		h.kept = append(h.kept[:0], h.kept[len(h.kept)-keptEvents:]...)
	}
}

// after returns what is newer than the event of that number.
func (h *history) after(number uint64) []control.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, e := range h.kept {
		if e.Number > number {
			return append([]control.Event{}, h.kept[i:]...)
		}
	}
	return nil
}
