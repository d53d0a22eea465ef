package cluster

import (
	"bytes"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// lines logs what memberlist would write, and returns it without times.
func lines(write func(*gossipLog)) ([]string, uint64) {
	var out bytes.Buffer
	var errors atomic.Uint64
	write(&gossipLog{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})), errors: &errors})
	return strings.Split(strings.TrimSpace(out.String()), "\n"), errors.Load()
}

func TestGossipErrorsAreWarningsAndTheRestIsForDebugging(t *testing.T) {
	got, errors := lines(func(l *gossipLog) {
		for _, line := range []string{
			"[DEBUG] memberlist: a", "[INFO] memberlist: b", "[WARN] memberlist: c", "[ERR] memberlist: d", "e", "",
		} {
			if n, err := l.Write([]byte(line + "\n")); n != len(line)+1 || err != nil {
				t.Errorf("write: %d, %v", n, err)
			}
		}
	})
	want := []string{
		"level=DEBUG msg=gossip text=a", "level=DEBUG msg=gossip text=b", "level=DEBUG msg=gossip text=c",
		"level=WARN msg=gossip text=d", "level=DEBUG msg=gossip text=e", `level=DEBUG msg=gossip text=""`,
	}
	if diff := cmp.Diff(want, got); diff != "" || errors != 1 {
		t.Errorf("%d errors; lines (-want +got):\n%s", errors, diff)
	}
}

func TestAFloodOfBadPacketsDoesNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, errors := lines(func(l *gossipLog) {
			for range 2 {
				for range 1000 {
					if _, err := l.Write([]byte("[ERR] memberlist: bad packet\n")); err != nil {
						t.Error(err)
					}
				}
				time.Sleep(time.Minute)
			}
		})
		warnings := strings.Count(strings.Join(got, "\n"), "level=WARN")
		if warnings != 2*warningsPerMinute || errors != 2000 {
			t.Errorf("%d warnings, %d errors counted", warnings, errors)
		}
	})
}
