package ownership

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// The simulation runs as many worlds as make up LBSIM_STEPS events (of machines), from seed 1 on and a
// random one. LBSIM_SEED runs one world alone and tells everything that happened in the end.
const defaultSteps = 1_200_000

// An outcome is how a world ended.
type outcome struct {
	world *world
	wrong string // "" if nothing was
}

func runWorld(seed uint64, broken rule, shared *tables) (o outcome) {
	w := newWorld(seed, broken, shared)
	o.world = w
	defer func() {
		switch r := recover().(type) {
		case nil:
		case wrong:
			o.wrong = string(r)
		default:
			o.wrong = fmt.Sprintf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	w.live()
	return o
}

func newSharedTables() *tables {
	t := newTables()
	t.limit = 4096
	return t
}

func (o outcome) String() string {
	return fmt.Sprintf("seed %d (%v): after %d events, at %v: %s\n\nLBSIM_SEED=%d go test -run TestNoScheduleBreaksTheRules ./internal/ownership\nshows all of it; its end:\n%s",
		o.world.seed, o.world.traits, o.world.steps, o.world.now, o.wrong, o.world.seed, tail(o.world.records.String(), 6000))
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func envUint(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// explore runs worlds until they made that many steps, or done says that it is enough.
func explore(seeds func() uint64, steps uint64, broken rule, done func(outcome) bool) uint64 {
	var total atomic.Uint64
	var stop atomic.Bool
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			shared := newSharedTables()
			for total.Load() < steps && !stop.Load() {
				mu.Lock()
				seed := seeds()
				mu.Unlock()
				o := runWorld(seed, broken, shared)
				total.Add(uint64(o.world.steps))
				mu.Lock()
				if done(o) {
					stop.Store(true)
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return total.Load()
}

func from(seed uint64) func() uint64 {
	return func() uint64 { seed++; return seed - 1 }
}

func TestNoScheduleBreaksTheRules(t *testing.T) {
	if seed := envUint(t, "LBSIM_SEED", 0); seed != 0 {
		o := runWorld(seed, rule(envUint(t, "LBSIM_BROKEN", 0)), newSharedTables())
		t.Logf("%v\n%s", o.world.traits, o.world.records.String())
		if o.wrong != "" {
			t.Fatal(o.wrong)
		}
		return
	}
	next, random := from(envUint(t, "LBSIM_FROM", 1)), rand.Uint64()>>1
	t.Logf("random seed %d", random)
	seeds := func() uint64 {
		if seed := random; seed != 0 {
			random = 0
			return seed
		}
		return next()
	}
	worlds, failed := 0, 0
	steps := explore(seeds, envUint(t, "LBSIM_STEPS", defaultSteps), ruleNone, func(o outcome) bool {
		worlds++
		if o.wrong != "" {
			failed++
			t.Error(o)
		}
		return failed >= 3
	})
	t.Logf("%d events in %d worlds", steps, worlds)
}
