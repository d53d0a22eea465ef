package hooks

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/config"
)

// A lab is a Runner that runs, with a directory for scripts and what they write.
type lab struct {
	*Runner
	t    *testing.T
	dir  string
	log  *safeBuffer
	stop func() // ends Run and waits for it
}

type safeBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir(), log: &safeBuffer{}}
	l.Runner = NewRunner(filepath.Join(l.dir, "run"), slog.New(slog.NewTextHandler(l.log, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(l.stop)
	return l
}

// hook makes a hook of a script, which is run in the lab's directory.
func (l *lab) hook(name, text string, on ...config.HookEvent) config.Hook {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\ncd "+l.dir+"\n"+text+"\n"), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if on == nil {
		on = []config.HookEvent{config.HookNode, config.HookService, config.HookVIP, config.HookDrain}
	}
	return config.Hook{Command: []string{path}, On: on, Timeout: 20 * time.Second}
}

func (l *lab) read(name string) string {
	text, err := os.ReadFile(filepath.Join(l.dir, name))
	if err != nil {
		return ""
	}
	return string(text)
}

// await waits until a file has a text.
func (l *lab) await(name, want string) {
	l.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); l.read(name) != want; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("%s (-want +got):\n%s\n%s", name, cmp.Diff(want, l.read(name)), l.log)
		}
	}
}

func event(n int) Event {
	return Event{
		Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Cluster: "web", Node: "n1",
		Kind: config.HookNode, Name: fmt.Sprint("n", n), State: Fault, Before: Master, Priority: 50,
		What: "it is down", Why: "silence",
	}
}

func TestAHookIsToldAsKeepalivedWouldAndInJSON(t *testing.T) {
	l := newLab(t)
	h := l.hook("hook", `{ printf '%s|' "$@"; echo; echo $LB_EVENT $LB_CLUSTER $LB_NODE; cat; } > told.new; mv told.new told`)
	h.Command = append(h.Command, "--mail", "two words")
	l.Set([]config.Hook{h})
	l.Tell(event(2))
	l.await("told", "--mail|two words|GROUP|n2|FAULT|50|\nnode web n1\n"+
		`{"time":"2026-03-01T12:00:00Z","cluster":"web","node":"n1","kind":"node","name":"n2","state":"FAULT","before":"MASTER",`+
		`"priority":50,"what":"it is down","why":"silence"}`+"\n")
	l.Tell(Event{Kind: config.HookVIP, Name: "2001:db8::80", State: Master, Priority: 100})
	l.await("told", "--mail|two words|INSTANCE|2001:db8::80|MASTER|100|\nvip\n"+
		`{"time":"0001-01-01T00:00:00Z","cluster":"","node":"","kind":"vip","name":"2001:db8::80","state":"MASTER","priority":100,"what":""}`+"\n")
}

func TestEachHookIsToldInOrderAndNoneWaitsForAnother(t *testing.T) {
	l := newLab(t)
	l.Set([]config.Hook{
		l.hook("slow", "sleep 0.0$(( $(date +%N | cut -c9) )); echo $2 >> slow.out"),
		l.hook("hung", "exec sleep 1000"),
		l.hook("services", "echo $2 >> services.out", config.HookService),
	})
	var want strings.Builder
	for n := range 30 {
		fmt.Fprintf(&want, "n%d\n", n)
		l.Tell(event(n))
	}
	l.Tell(Event{Kind: config.HookService, Name: "shop"})
	l.await("services.out", "shop\n")
	fmt.Fprintln(&want, "shop")
	l.await("slow.out", want.String())
}

func TestAHookThatHangsIsKilledWithItsChildrenAndTheNextEventIsTold(t *testing.T) {
	l := newLab(t)
	h := l.hook("hook", `echo $2 >> out; if [ "$2" = n1 ]; then trap '' TERM; sleep 1000 & echo $! > child; sleep 1000; fi`)
	h.Timeout = time.Second
	l.Set([]config.Hook{h})
	l.Tell(event(1))
	l.Tell(event(2))
	l.await("out", "n1\nn2\n")
	stat, err := os.ReadFile("/proc/" + strings.TrimSpace(l.read("child")) + "/stat")
	if err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("its child is there: %s", stat)
	}
	if text := l.log.String(); !strings.Contains(text, `msg="a hook failed"`) || !strings.Contains(text, `err="timeout, killed"`) {
		t.Errorf("log: %s", text)
	}
}

func TestTheOldestEventsAreDroppedAndCountedWhenAHookIsTooSlow(t *testing.T) {
	l := newLab(t)
	l.Set([]config.Hook{l.hook("hook", `while ! test -e go; do sleep 0.01; done; echo $2 >> out`)})
	l.Tell(event(0))
	for deadline := time.Now().Add(20 * time.Second); l.Status()[0].Waiting > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the first event is not told")
		}
	}
	const more = 10
	start := time.Now()
	for n := range maxQueue + more {
		l.Tell(event(n + 1))
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("to tell took %s", took)
	}
	if got := l.Status()[0]; got.Waiting != maxQueue || got.Dropped != more {
		t.Errorf("%+v", got)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	want := "n0\n"
	for n := range maxQueue {
		want += fmt.Sprintf("n%d\n", n+1+more)
	}
	l.await("out", want)
	for _, line := range []string{`msg="a hook is too slow; events are dropped"`, fmt.Sprintf("dropped=%d", more)} {
		if n := strings.Count(l.log.String(), line); n != 1 {
			t.Errorf("%q is %d times in:\n%s", line, n, l.log)
		}
	}
}

func TestAHookThatOthersCouldChangeIsRefused(t *testing.T) {
	l := newLab(t)
	h := l.hook("hook", "echo $2 >> out")
	if err := os.Chmod(h.Command[0], 0o777); err != nil {
		t.Fatal(err)
	}
	l.Set([]config.Hook{h})
	l.Tell(event(1))
	want := "refused: " + h.Command[0] + " can be written by others (mode 0777)"
	l.awaitFailed(want)
	if err := os.Chmod(h.Command[0], 0o755); err != nil {
		t.Fatal(err)
	}
	l.Tell(event(2))
	l.await("out", "n2\n")
	l.awaitFailed("")
}

// awaitFailed waits until the only hook's last run ended so.
func (l *lab) awaitFailed(want string) {
	l.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); l.Status()[0].Failed != want; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("failed: %q, want %q", l.Status()[0].Failed, want)
		}
	}
}

func TestWhatAHookSaysIsTold(t *testing.T) {
	l := newLab(t)
	l.Set([]config.Hook{l.hook("hook", "echo no such mailbox >&2; exit 3")})
	l.Tell(event(1))
	l.awaitFailed("exit status 3: no such mailbox")
}

func TestAnotherConfigurationKeepsWhatWaits(t *testing.T) {
	l := newLab(t)
	kept := l.hook("kept", `while ! test -e go; do sleep 0.01; done; echo $2 >> kept.out`)
	gone := l.hook("gone", `while ! test -e go; do sleep 0.01; done; echo $2 >> gone.out`)
	l.Set([]config.Hook{gone, kept})
	for n := range 3 {
		l.Tell(event(n))
	}
	for deadline := time.Now().Add(20 * time.Second); l.Status()[0].Waiting > 2 || l.Status()[1].Waiting > 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the first event is not told")
		}
	}
	kept.On = []config.HookEvent{config.HookDrain}
	l.Set([]config.Hook{kept})
	l.Tell(event(3)) // no hook wants it
	l.Tell(Event{Kind: config.HookDrain, Name: "drain"})
	if err := os.WriteFile(filepath.Join(l.dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l.await("kept.out", "n0\nn1\nn2\ndrain\n")
	l.await("gone.out", "n0\n") // it was under way
	if l.Wants(config.HookNode) || !l.Wants(config.HookDrain) || len(l.Status()) != 1 {
		t.Errorf("%+v", l.Status())
	}
}

func TestWhatWasToldLastIsRunBeforeTheEnd(t *testing.T) {
	l := newLab(t)
	l.Set([]config.Hook{l.hook("hook", "echo $2 >> out")})
	for n := range 5 {
		l.Tell(event(n))
	}
	l.stop()
	if got := l.read("out"); got != "n0\nn1\nn2\nn3\nn4\n" {
		t.Errorf("%q", got)
	}
}

func TestAHookThatHangsDoesNotKeepLbdFromEnding(t *testing.T) {
	l := newLab(t)
	l.Set([]config.Hook{l.hook("hook", "echo $$ > pid; exec sleep 1000")})
	l.Tell(event(1))
	l.Tell(event(2))
	for deadline := time.Now().Add(20 * time.Second); !strings.HasSuffix(l.read("pid"), "\n"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not run")
		}
	}
	start := time.Now()
	l.stop()
	if took := time.Since(start); took < stopTime || took > stopTime+3*time.Second {
		t.Errorf("it took %s", took)
	}
	if _, err := os.Stat("/proc/" + strings.TrimSpace(l.read("pid"))); err == nil {
		t.Error("it is still there")
	}
	if text := l.log.String(); !strings.Contains(text, "lbd ends before a hook was told everything") || !strings.Contains(text, "events=1") {
		t.Errorf("log: %s", text)
	}
}
