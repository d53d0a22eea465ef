package probe

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/health"
)

// A stage is a Runner whose probes are what the test says, in a bubble of its own time.
type stage struct {
	*Runner
	t     *testing.T
	began time.Time
	log   *strings.Builder // read it while the bubble sleeps

	mu     sync.Mutex
	told   []Report
	probes map[string][]time.Duration // when probes began, by what they ask
	active map[string]int
	most   int // probes at once
	answer func(ctx context.Context, ask string) health.Result
}

// play runs fn with a Runner that runs, until fn returns.
func play(t *testing.T, parallel int, fn func(*stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{
			t: t, began: time.Now(), log: new(strings.Builder), probes: make(map[string][]time.Duration), active: make(map[string]int),
			answer: func(context.Context, string) health.Result { return health.Result{OK: true} },
		}
		plain := func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
		s.Runner = NewRunner(Options{
			Node: "n1", Parallel: parallel, Report: s.hear,
			Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{ReplaceAttr: plain})),
		})
		s.probe = s.act
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		fn(s)
		stopped := time.Now()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if took := time.Since(stopped); took != 0 {
			t.Errorf("ending took %s", took)
		}
	})
}

// act stands for a probe. The text that an agent would be asked with names it.
func (s *stage) act(ctx context.Context, target netip.AddrPort, spec *Spec) health.Result {
	s.mu.Lock()
	s.probes[spec.Ask] = append(s.probes[spec.Ask], time.Since(s.began))
	s.active[spec.Ask]++
	if s.active[spec.Ask] > 1 {
		s.t.Errorf("%s is probed twice at once", spec.Ask)
	}
	sum := 0
	for _, n := range s.active {
		sum += n
	}
	s.most = max(s.most, sum)
	answer := s.answer
	s.mu.Unlock()
	r := answer(ctx, spec.Ask)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active[spec.Ask]--
	return r
}

func (s *stage) hear(r Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, r)
}

// reports returns what was told since the last call.
func (s *stage) reports() []Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.told
	s.told = nil
	return told
}

func (s *stage) answers(fn func(ctx context.Context, ask string) health.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = fn
}

func (s *stage) count(ask string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.probes[ask])
}

// underWay returns how many probes there are now.
func (s *stage) underWay() (sum int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.active {
		sum += n
	}
	return sum
}

func (s *stage) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// hang answers when the probe is stopped.
func hang(ctx context.Context, _ string) health.Result {
	<-ctx.Done()
	return health.Result{Detail: "timeout"}
}

func answer(ok bool) func(context.Context, string) health.Result {
	return func(context.Context, string) health.Result { return health.Result{OK: ok, Detail: fmt.Sprint(ok)} }
}

var every = health.Rule{Interval: 10 * time.Second, Timeout: 5 * time.Second, Rise: 2, Fall: 3, Start: health.Up}

func check(name string, rule health.Rule) Check {
	return Check{Service: "web", Name: name, Target: web, Spec: Spec{Ask: name}, Rule: rule}
}

func TestChecksAreProbedOnceAnInterval(t *testing.T) {
	play(t, 0, func(s *stage) {
		var checks []Check
		for i := range 100 {
			checks = append(checks, check(fmt.Sprint(i), every))
		}
		s.Set(checks)
		s.sleep(10*time.Second - 1)
		for i := range 100 {
			if n := s.count(fmt.Sprint(i)); n != 1 {
				t.Errorf("check %d: %d probes in the first interval", i, n)
			}
		}
		s.sleep(990 * time.Second)
		for i := range 100 {
			if n := s.count(fmt.Sprint(i)); n < 98 || n > 102 {
				t.Errorf("check %d: %d probes in 100 intervals", i, n)
			}
		}
		if s.most > 3 { // they take no time
			t.Errorf("%d probes at once", s.most)
		}
	})
}

func TestAFailingServiceGoesDownAndComesBack(t *testing.T) {
	fast := every
	fast.FastInterval = time.Second
	play(t, 0, func(s *stage) {
		s.answers(answer(false))
		s.Set([]Check{check("http", fast)})
		s.sleep(time.Second)                 // the first probe comes within a fast interval
		s.sleep(2*time.Second + time.Second) // two more, each a twentieth late at most
		if got := s.Health()[Subject{Service: "web"}].Checks["http"]; got != health.Down {
			t.Errorf("%s after %d probes", got, s.count("http"))
		}
		s.answers(answer(true))
		s.sleep(12 * time.Second) // one slow interval, one fast one
		if got := s.Health()[Subject{Service: "web"}].Checks["http"]; got != health.Up {
			t.Errorf("%s after %d probes", got, s.count("http"))
		}
		want := "level=WARN msg=\"check changed\" service=web check=http state=down detail=false took=0s\n" +
			"level=INFO msg=\"check changed\" service=web check=http state=up detail=true took=0s\n"
		if diff := cmp.Diff(want, s.log.String()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
		var got []string
		for _, r := range s.reports() {
			got = append(got, fmt.Sprintf("%s %s %v %s %v", r.Service, r.Name, r.Result.OK, r.State, r.Changed))
		}
		wantReports := []string{
			"web http false up false", "web http false up false", "web http false down true",
			"web http true down false", "web http true up true",
		}
		if diff := cmp.Diff(wantReports, got[:5]); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
	})
}

func TestAHangingProbeEndsWithItsTimeoutAndCountsAsFailed(t *testing.T) {
	play(t, 0, func(s *stage) {
		s.answers(hang)
		s.Set([]Check{check("http", every)})
		s.sleep(50 * time.Second)
		status := s.Status()
		if len(status) != 1 || status[0].State != health.Down || status[0].Results[0].Detail != "timeout" {
			t.Errorf("%+v", status)
		}
	})
}

func TestAProbeThatTakesLongerThanTheIntervalIsNotDoubled(t *testing.T) {
	play(t, 0, func(s *stage) {
		slow := every
		slow.Timeout = 25 * time.Second
		s.answers(hang)
		s.Set([]Check{check("http", slow)}) // act complains about two at once
		s.sleep(10 * time.Second)
		s.sleep(100 * time.Second)
		if n := s.count("http"); n < 4 || n > 5 {
			t.Errorf("%d probes of 25 s in 100 to 110 s", n)
		}
	})
}

func TestProbesAtOnceAreLimitedAndTheLongestWaitingIsFirst(t *testing.T) {
	play(t, 4, func(s *stage) {
		s.answers(hang)
		var checks []Check
		for i := range 16 { // 80 s of probing an interval of 10 s, 4 at once: twice too much
			checks = append(checks, check(fmt.Sprint(i), every))
		}
		s.Set(checks)
		s.sleep(410 * time.Second)
		if s.most != 4 {
			t.Errorf("%d probes at once", s.most)
		}
		for i := range 16 { // all get their part: 4 each 5 s are 16 each 20 s
			if n := s.count(fmt.Sprint(i)); n < 19 || n > 22 {
				t.Errorf("check %d: %d probes", i, n)
			}
		}
	})
}

func TestEndingStopsWhatIsUnderWayAtOnce(t *testing.T) {
	play(t, 0, func(s *stage) {
		s.answers(hang)
		s.Set([]Check{check("a", every), check("b", every)})
		s.sleep(10 * time.Second)
		for s.underWay() < 2 {
			s.sleep(time.Second)
		}
	}) // play sees how long it takes
}

// A daemon that ends must not tell its neighbours, as the last thing, that its services are broken.
func TestEndingIsNoFailure(t *testing.T) {
	for range 20 { // select takes any of what is ready
		var s *stage
		hair := every
		hair.Fall = 1
		play(t, 0, func(now *stage) {
			s = now
			s.answers(hang)
			s.Set([]Check{check("a", hair), check("b", hair)})
			s.sleep(4 * time.Second)
			for s.underWay() < 2 {
				s.sleep(time.Second)
			}
			s.reports()
		})
		if told := s.reports(); len(told) > 0 || s.log.Len() > 0 {
			t.Fatalf("reports %+v, log %s", told, s.log)
		}
	}
}

func TestAChangeOfOthersLeavesACheckAlone(t *testing.T) {
	play(t, 0, func(s *stage) {
		body := func() Check {
			c := check("http", every)
			c.Spec.HTTP = HTTPSpec{Headers: map[string]string{"A": "b"}, Status: []StatusRange{{200, 204}}, Body: regexp.MustCompile("^(a|b)+[c-x]{3,9}$")}
			return c
		}
		s.Set([]Check{body()})
		s.sleep(35 * time.Second)
		before := s.Status()
		s.Set([]Check{check("other", every), body()}) // equal, not the same
		s.Set([]Check{body()})
		if diff := cmp.Diff(before, s.Status(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("status (-before +after):\n%s", diff)
		}
	})
}

func TestAnotherRuleKeepsStateAndResults(t *testing.T) {
	play(t, 0, func(s *stage) {
		s.answers(answer(false))
		s.Set([]Check{check("http", every)})
		s.sleep(50 * time.Second)
		before := s.Status()[0]
		rule := every
		rule.Rise, rule.Interval, rule.Start = 1, time.Second, health.Up
		s.answers(answer(true))
		s.Set([]Check{check("http", rule)})
		after := s.Status()[0]
		if after.State != health.Down || len(after.Results) != len(before.Results) || after.Needed != 1 {
			t.Errorf("%+v", after)
		}
		s.sleep(1100 * time.Millisecond) // not the old interval
		if got := s.Status()[0].State; got != health.Up {
			t.Errorf("%s", got)
		}
	})
}

func TestAnotherTargetKeepsTheStateOnly(t *testing.T) {
	play(t, 0, func(s *stage) {
		down := every
		down.Start = health.Down
		s.Set([]Check{check("http", down)})
		s.sleep(30 * time.Second)
		moved := check("http", down)
		moved.Target = netip.MustParseAddrPort("192.0.2.1:8443")
		s.Set([]Check{moved})
		got := s.Status()[0]
		if got.State != health.Up || len(got.Results) != 0 || got.Target != moved.Target || got.Next.Before(time.Now()) {
			t.Errorf("%+v", got)
		}
	})
}

func TestWhatAnAbandonedProbeFoundIsForgotten(t *testing.T) {
	play(t, 0, func(s *stage) {
		hair := every
		hair.Fall, hair.Timeout = 1, 100*time.Second
		s.answers(func(ctx context.Context, _ string) health.Result {
			<-ctx.Done()
			time.Sleep(30 * time.Second) // it does not notice
			return health.Result{Detail: "old"}
		})
		s.Set([]Check{check("a", hair), check("b", hair)})
		s.sleep(11 * time.Second)
		s.answers(answer(true))
		changed := check("a", hair)
		changed.Target = netip.MustParseAddrPort("192.0.2.1:8443")
		s.Set([]Check{changed})
		s.Set([]Check{changed, check("b", hair)}) // b went and came
		s.sleep(29 * time.Second)
		if told := s.reports(); len(told) != 0 { // the old ones still run
			t.Errorf("%+v", told)
		}
		s.sleep(12 * time.Second)
		told := s.reports()
		if s.count("a") < 2 || s.count("b") < 2 || len(told) < 2 {
			t.Errorf("%d and %d probes, %d reports", s.count("a"), s.count("b"), len(told))
		}
		for _, r := range told {
			if !r.Result.OK {
				t.Errorf("%+v", r)
			}
		}
	})
}

func TestACheckThatIsNotWantedIsGone(t *testing.T) {
	play(t, 0, func(s *stage) {
		s.answers(hang)
		s.Set([]Check{check("a", every), check("b", every)})
		s.sleep(11 * time.Second)
		s.Set([]Check{check("b", every)})
		if status, services := s.Status(), s.Health(); len(status) != 1 || status[0].Name != "b" || len(services[Subject{Service: "web"}].Checks) != 1 {
			t.Errorf("%+v, %+v", status, services)
		}
		s.Set(nil)
		s.sleep(0)
		before := s.count("a") + s.count("b")
		s.sleep(time.Minute)
		if after := s.count("a") + s.count("b"); after != before || len(s.Status()) != 0 || len(s.Health()) != 0 || len(s.entries) != 0 {
			t.Errorf("%d probes, %+v", after-before, s.Status())
		}
	})
}

func TestAnAgentCountsByItsWordsAlone(t *testing.T) {
	play(t, 0, func(s *stage) {
		reply := func(line string) {
			r := health.ParseReply(line)
			s.answers(func(context.Context, string) health.Result {
				return health.Result{OK: !r.Health.Bad(), Detail: line, Agent: &r}
			})
		}
		agent := check("load", every)
		agent.Spec.Kind = Agent
		verdict := func() health.Verdict {
			service := s.Health()[Subject{Service: "web"}]
			service.Weight = 100
			return service.Verdict()
		}
		reply("50%")
		s.Set([]Check{agent})
		s.sleep(10 * time.Second)
		if got := s.reports()[0]; !got.Changed || got.State != health.Up {
			t.Errorf("the first words: %+v", got)
		}
		s.answers(func(context.Context, string) health.Result {
			return health.Result{Detail: "connect: connection refused"}
		})
		s.sleep(100 * time.Second)
		if diff := cmp.Diff(health.Verdict{Weight: 50, Healthy: true, Reason: "agent load wants 50 % of the weight"}, verdict()); diff != "" {
			t.Errorf("an agent that can't be reached (-want +got):\n%s", diff)
		}
		reply("down # disk")
		s.sleep(11 * time.Second) // at once, whatever fall says
		if diff := cmp.Diff(health.Verdict{Weight: 50, Reason: "agent load says down: disk"}, verdict()); diff != "" {
			t.Errorf("an agent that is down (-want +got):\n%s", diff)
		}
		s.Set(nil)
		agent.Rule.Start = health.Down
		s.Set([]Check{agent})
		if diff := cmp.Diff(health.Verdict{Weight: 100, Reason: "agent load says down: not heard yet"}, verdict()); diff != "" {
			t.Errorf("an agent that starts down (-want +got):\n%s", diff)
		}
	})
}

// With real probes: the descriptors that 1,000 checks take come back.
func TestRealProbesOfManyChecks(t *testing.T) {
	target := says(t, "up\n", false)
	var mu sync.Mutex
	good := 0
	runner := NewRunner(Options{Node: "n1", Log: slog.New(slog.DiscardHandler), Report: func(r Report) {
		mu.Lock()
		defer mu.Unlock()
		if r.Result.OK {
			good++
		}
	}})
	rule := health.Rule{Interval: 500 * time.Millisecond, Timeout: 5 * time.Second}
	var checks []Check
	for i := range 200 {
		checks = append(checks, Check{Service: "web", Name: fmt.Sprint(i), Target: target, Spec: Spec{Kind: Kind(i % 2 * int(Agent))}, Rule: rule})
	}
	runner.Set(checks)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := runner.Run(ctx); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if good < 400 {
		t.Errorf("%d good probes", good)
	}
	for _, s := range runner.Status() {
		if s.State != health.Up {
			t.Errorf("%s: %+v", s.Name, s)
		}
	}
}

func TestChecksOfBackendsAreApart(t *testing.T) {
	play(t, 0, func(s *stage) {
		s.answers(func(_ context.Context, ask string) health.Result {
			return health.Result{OK: ask != "b2", Detail: map[bool]string{true: "fine", false: "broken"}[ask != "b2"]}
		})
		var checks []Check
		for _, backend := range []string{"", "b1", "b2"} {
			c := check("http", every)
			c.Backend, c.Spec.Ask = backend, backend
			checks = append(checks, c)
		}
		s.Set(checks)
		unsure := map[Subject]bool{{"web", ""}: true, {"web", "b1"}: true, {"web", "b2"}: true}
		if diff := cmp.Diff(unsure, s.Unsure()); diff != "" {
			t.Errorf("unsure at the start (-want +got):\n%s", diff)
		}
		s.sleep(10 * time.Second) // one probe of each, or two
		if diff := cmp.Diff(map[Subject]bool{{"web", "b2"}: true}, s.Unsure()); diff != "" {
			t.Errorf("unsure after a probe (-want +got):\n%s", diff)
		}
		s.sleep(time.Minute)
		if diff := cmp.Diff(map[Subject]bool{}, s.Unsure()); diff != "" {
			t.Errorf("unsure in the end (-want +got):\n%s", diff)
		}
		want := map[Subject]health.Service{
			{"web", ""}:   {Checks: map[string]health.State{"http": health.Up}, Why: map[string]string{"http": "fine"}, Agents: map[string]health.Agent{}},
			{"web", "b1"}: {Checks: map[string]health.State{"http": health.Up}, Why: map[string]string{"http": "fine"}, Agents: map[string]health.Agent{}},
			{"web", "b2"}: {Checks: map[string]health.State{"http": health.Down}, Why: map[string]string{"http": "broken"}, Agents: map[string]health.Agent{}},
		}
		if diff := cmp.Diff(want, s.Health()); diff != "" {
			t.Errorf("health (-want +got):\n%s", diff)
		}
		var order []string
		for _, status := range s.Status() {
			order = append(order, status.Backend+" "+status.State.String())
		}
		if diff := cmp.Diff([]string{" up", "b1 up", "b2 down"}, order); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
		var told []string
		for _, r := range s.reports() {
			told = append(told, fmt.Sprintf("%s found %t changed %t", r.Backend, r.Found, r.Changed))
		}
		slices.Sort(told)
		news := slices.DeleteFunc(slices.Compact(told), func(s string) bool { return strings.HasSuffix(s, "found false changed false") })
		if diff := cmp.Diff([]string{" found true changed false", "b1 found true changed false", "b2 found true changed true"}, news); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
		const log = "level=WARN msg=\"check changed\" service=web backend=b2 check=http state=down detail=broken took=0s\n"
		if diff := cmp.Diff(log, s.log.String()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}
