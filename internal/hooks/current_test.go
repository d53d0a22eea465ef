package hooks

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/config"
)

// A hook that goes on trying for a node which is not the owner any more would undo what the new owner
// did.
func TestAHookKnowsThatItWasOvertaken(t *testing.T) {
	l := newLab(t)
	l.Set([]config.Hook{l.hook("slow", `echo "$3 begins" >> told
while [ -e "$LB_CURRENT" ] && [ ! -e go ]; do sleep 0.01; done
[ -e "$LB_CURRENT" ] && now=current || now=overtaken
echo "$3 ends $now" >> told`)})
	tell := func(name string, state State) {
		l.Tell(Event{Kind: config.HookVIP, Name: name, State: state})
	}
	tell("192.0.2.80", Master)
	l.await("told", "MASTER begins\n")
	tell("192.0.2.81", Fault)         // something else
	time.Sleep(50 * time.Millisecond) // a hook that took this for news would have ended by now
	l.await("told", "MASTER begins\n")
	tell("192.0.2.80", Backup)
	if err := os.WriteFile(filepath.Join(l.dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l.await("told", "MASTER begins\nMASTER ends overtaken\nFAULT begins\nFAULT ends current\nBACKUP begins\nBACKUP ends current\n")
	l.stop()
	if left, err := os.ReadDir(filepath.Join(l.dir, "run")); len(left) > 0 || err != nil {
		t.Errorf("%v are left, %v", left, err)
	}
}
