package cluster

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// gossipLog brings memberlist's lines, "[WARN] memberlist: text", into our log. What matters we
// log ourselves, so most are for debugging; its errors are warnings, but one for each packet that
// cannot be decrypted would let anybody fill the disk.
type gossipLog struct {
	log    *slog.Logger
	errors *atomic.Uint64

	mu     sync.Mutex
	minute time.Time // when the count began
	count  int
}

// warningsPerMinute is how many of memberlist's errors are shown; all are counted.
const warningsPerMinute = 5

// Write takes one line.
func (l *gossipLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	level := slog.LevelDebug
	if rest, ok := strings.CutPrefix(text, "[ERR] "); ok {
		text = rest
		l.errors.Add(1)
		if l.mayWarn(time.Now()) {
			level = slog.LevelWarn
		}
	} else if end := strings.Index(text, "] "); end > 0 && text[0] == '[' {
		text = text[end+2:]
	}
	l.log.Log(context.Background(), level, "gossip", "text", strings.TrimPrefix(text, "memberlist: "))
	return len(line), nil
}

func (l *gossipLog) mayWarn(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.minute) >= time.Minute {
		l.minute, l.count = now, 0
	}
	l.count++
	return l.count <= warningsPerMinute
}
