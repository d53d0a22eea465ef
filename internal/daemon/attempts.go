package daemon

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/member"
	"github.com/lbctl/lbctl/internal/probe"
)

// attemptsEvery is how often what was counted is read and told: health.CountsLag is three times that.
const attemptsEvery = 500 * time.Millisecond

// An attemptWatch judges backends by the connections that clients open to them. SYNs go there by all
// directors and answers come back by one of them, so only all counts together tell anything.
type attemptWatch struct {
	judges map[probe.Subject]*health.Attempts
	counts map[string]map[probe.Subject]health.Counts // at the last look, by node
	teller member.AttemptTeller
	deaf   bool // what was counted could not be read or told; it was said
}

// watchedOf are the backends of a service that connections may take out, by where they are.
func watchedOf(s *config.Service) map[netip.AddrPort]string {
	watched := make(map[netip.AddrPort]string)
	for i := range s.Backends {
		if b := &s.Backends[i]; b.Fails.Max > 0 && !b.Down {
			watched[netip.AddrPortFrom(b.Address, b.Port)] = b.Name
		}
	}
	return watched
}

// attemptRules are the rules of all backends that connections may take out.
func attemptRules(cfg *config.Config) map[probe.Subject]health.AttemptRule {
	rules := make(map[probe.Subject]health.AttemptRule)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		for j := range s.Backends {
			if b := &s.Backends[j]; b.Fails.Max > 0 && !b.Down {
				rules[probe.Subject{Service: s.Name, Backend: b.Name}] = health.AttemptRule{MaxFails: b.Fails.Max, FailTimeout: b.Fails.Timeout}
			}
		}
	}
	return rules
}

// watchAttempts looks at what became of connections, and says whether that changed a verdict.
func (p *planner) watchAttempts(ctx context.Context) (changed bool) {
	w := &p.forwarder.attempts
	now := time.Now()
	rules := attemptRules(p.cfg)
	if w.use(rules, now); len(rules) == 0 || p.state == nil {
		return false
	}
	all := make(map[string]member.Attempts)
	counted, err := p.path.Attempts()
	own := attemptsOf(p.cfg, counted)
	if err == nil && p.member != nil {
		if all, err = p.member.AttemptsByNode(ctx, health.CountsLag); err == nil {
			err = p.member.TellAttempts(&w.teller, own)
		}
	}
	if err != nil && !w.deaf {
		p.opts.Log.Warn("directors do not know what becomes of connections to backends", "err", err)
	}
	if w.deaf = err != nil; w.deaf {
		return false
	}
	all[p.cfg.Node] = own
	return w.judge(now, own.Services, all)
}

// attemptsOf names what was counted.
func attemptsOf(cfg *config.Config, counted []datapath.Attempt) member.Attempts {
	a := member.Attempts{Services: make(map[string]uint64), Counts: make(map[probe.Subject]health.Counts)}
	watched := make(map[string]map[netip.AddrPort]string)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		if servers := watchedOf(s); len(servers) > 0 {
			watched[s.Name], a.Services[s.Name] = servers, fingerprint(servers)
		}
	}
	for _, c := range counted {
		if name, ok := watched[c.Service][c.Backend]; ok {
			a.Counts[probe.Subject{Service: c.Service, Backend: name}] = health.Counts{Opened: c.Opened, Answered: c.Answered, Refused: c.Refused}
		}
	}
	return a
}

// fingerprint tells whether two directors watch the same backends.
func fingerprint(servers map[netip.AddrPort]string) uint64 {
	hash := fnv.New64a()
	for _, at := range slices.SortedFunc(maps.Keys(servers), netip.AddrPort.Compare) {
		fmt.Fprintf(hash, "%s %s\n", at, servers[at])
	}
	return hash.Sum64()
}

// use makes rules those in force.
func (w *attemptWatch) use(rules map[probe.Subject]health.AttemptRule, now time.Time) {
	maps.DeleteFunc(w.judges, func(about probe.Subject, _ *health.Attempts) bool {
		_, watched := rules[about]
		return !watched
	})
	if w.judges == nil {
		w.judges = make(map[probe.Subject]*health.Attempts)
	}
	for about, rule := range rules {
		if judge, known := w.judges[about]; known {
			judge.SetRule(rule)
		} else {
			w.judges[about] = health.NewAttempts(rule, now)
		}
	}
}

// judge gives each judge what was added since the last look, by all directors. Where one of them counts
// other backends, or was not heard of lately, or for the first time, there may have been more.
func (w *attemptWatch) judge(now time.Time, services map[string]uint64, all map[string]member.Attempts) (changed bool) {
	for about, judge := range w.judges {
		var added health.Counts
		complete := true
		for node, said := range all {
			counts, counted := said.Counts[about]
			before, known := w.counts[node][about]
			if !counted || !known || said.Services[about.Service] != services[about.Service] {
				complete = false
				continue
			}
			added = added.Add(counts.Since(before))
		}
		if judge.Record(now, added, complete) {
			changed = true
		}
	}
	w.counts = make(map[string]map[probe.Subject]health.Counts, len(all))
	for node, said := range all {
		w.counts[node] = said.Counts
	}
	return changed
}

// back adds to a reason how long it is until a backend is tried again, as this director counts.
func (w *attemptWatch) back(service, backend, why string) string {
	judge, ok := w.judges[probe.Subject{Service: service, Backend: backend}]
	if !ok {
		return why
	}
	left := judge.Back(time.Now())
	if left == 0 {
		return why
	}
	verdict, more, used := strings.Cut(why, "; ")
	verdict += fmt.Sprintf(", back in %s", left.Round(time.Second))
	if used {
		verdict += "; " + more
	}
	return verdict
}
