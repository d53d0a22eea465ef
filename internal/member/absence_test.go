package member

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/ownership"
)

// onLeave returns the snapshot of a node that took its leave just now.
func onLeave(t *testing.T, cfg ownership.Config, life uint64) []byte {
	t.Helper()
	now := datapath.Monotonic()
	machine, err := ownership.New(cfg, life, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range []ownership.Event{
		ownership.Weights{Domains: map[string]ownership.Weight{"": {Weight: 1, Healthy: true, MinNodes: 1}}},
		ownership.Ready{}, ownership.Tick{}, ownership.Absence{For: time.Minute},
	} {
		for _, h := range machine.Handle(now, event).Events {
			if h.Kind == ownership.HappeningAbsent {
				return machine.Snapshot()
			}
		}
	}
	t.Fatal("no leave was given")
	return nil
}

func TestALeaveIsResumedOnce(t *testing.T) {
	cfg := ownership.DefaultConfig("n1")
	cfg.Expected = []string{"n1"}
	good := onLeave(t, cfg, 7)
	other := cfg
	other.Name = "n2"
	reconfigured := cfg
	reconfigured.Fingerprint++
	for _, c := range []struct {
		name string
		file []byte // nil: none
		cfg  ownership.Config
		want string // "": resumed
	}{
		{"a leave", good, cfg, ""},
		{"none", nil, cfg, "it took no leave"},
		{"an empty file", []byte{}, cfg, "read a snapshot"},
		{"half of a file", good[:len(good)/2], cfg, "read a snapshot"},
		{"garbage", []byte("garbage"), cfg, "read a snapshot"},
		{"that of another node", good, other, "the snapshot is of n1"},
		{"that of another configuration", good, reconfigured, "the configuration changed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &Member{opts: Options{Machine: c.cfg, Snapshot: filepath.Join(t.TempDir(), "absence")}}
			if c.file != nil {
				if err := os.WriteFile(m.opts.Snapshot, c.file, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			machine, err := m.resume()
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want == "":
				if life := machine.Status(datapath.Monotonic()).Life; life != 7 {
					t.Errorf("life %d", life)
				}
			case err == nil || !strings.Contains(err.Error(), c.want):
				t.Errorf("got %v, want %q", err, c.want)
			}
			if _, err := os.Stat(m.opts.Snapshot); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the file is still there: %v", err)
			}
			if _, err := m.resume(); err == nil {
				t.Error("resumed a second time")
			}
		})
	}
}

func TestASnapshotThatCannotBeRemovedIsNotUsed(t *testing.T) {
	// What cannot be removed could be used again, when others hold what it says.
	dir := filepath.Join(t.TempDir(), "absence")
	if err := os.MkdirAll(filepath.Join(dir, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	m := &Member{opts: Options{Machine: ownership.DefaultConfig("n1"), Snapshot: dir}}
	if machine, err := m.resume(); err == nil || machine != nil {
		t.Errorf("resumed: %v", err)
	}
}
