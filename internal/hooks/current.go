package hooks

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// A hook that takes its time, because what it calls does not answer, may have been overtaken: the state
// that it was told is not so any more, and the next event of the same subject waits until it ends. It finds
// out by a file, whose path is in LB_CURRENT: when that is gone, something newer is to be told.

// prepare makes the directory of these files, without those of a process before this one.
func (r *Runner) prepare() error {
	if err := os.RemoveAll(r.dir); err != nil {
		return fmt.Errorf("hooks: %w", err)
	}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return fmt.Errorf("hooks: %w", err)
	}
	return nil
}

// mark makes the file for an event, unless something newer waits already.
func (r *Runner) mark(h *hook, e Event) {
	r.runs++
	h.telling, h.current = e, filepath.Join(r.dir, fmt.Sprintf("current-%d", r.runs))
	if slices.ContainsFunc(h.queue, func(newer Event) bool { return sameSubject(&e, &newer) }) {
		return
	}
	if err := os.WriteFile(h.current, nil, 0o644); err != nil {
		r.log.Warn("a hook cannot know whether what it is told is still so", "hook", h.config.Command[0], "err", err)
		h.current = ""
	}
}

// unmark says that the event which the hook is being told is not the newest any more.
func (h *hook) unmark() {
	if h.current != "" {
		_ = os.Remove(h.current)
	}
}

func sameSubject(a, b *Event) bool { return a.Kind == b.Kind && a.Name == b.Name }
