package member

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/ownership"
	"github.com/lbctl/lbctl/internal/probe"
)

const (
	// attemptsRepeated is how often what was counted is told, in case that it did not get there.
	attemptsRepeated = 10
	// attemptsRecalled is how many reports are between those that tell it again though it did not change,
	// for directors that began later.
	attemptsRecalled = 60
)

// Attempts are what a director counted of the connections that clients open to backends, ever since.
type Attempts struct {
	// Services has, by the name of a service, a fingerprint of the backends that are counted. One that
	// is another one, or missing, is of another configuration.
	Services map[string]uint64
	Counts   map[probe.Subject]health.Counts
}

// An attemptReport is a message: the counts that changed lately, by service and backend.
type attemptReport struct {
	Number   uint64                              `json:"number"` // the highest is the newest
	Services map[string]uint64                   `json:"services"`
	Changed  map[string]map[string]health.Counts `json:"changed,omitempty"`

	received time.Time
	known    map[probe.Subject]health.Counts // of all reports
}

// An AttemptTeller says which counts to tell. The zero value is ready. It is not safe for concurrent use.
type AttemptTeller struct {
	told map[probe.Subject]toldCounts
}

type toldCounts struct {
	health.Counts
	times int
}

// report is what the others may not know yet.
func (t *AttemptTeller) report(a Attempts) attemptReport {
	r := attemptReport{Services: a.Services, Changed: make(map[string]map[string]health.Counts)}
	told := make(map[probe.Subject]toldCounts, len(a.Counts))
	for about, counts := range a.Counts {
		before := t.told[about]
		if before.Counts != counts {
			before = toldCounts{Counts: counts}
		}
		if before.times++; before.times <= attemptsRepeated || before.times%attemptsRecalled == 0 {
			if r.Changed[about.Service] == nil {
				r.Changed[about.Service] = make(map[string]health.Counts)
			}
			r.Changed[about.Service][about.Backend] = counts
		}
		told[about] = before
	}
	t.told = told
	return r
}

// TellAttempts tells the other directors what this one counted. It is to be called every half second,
// changed or not: they do not judge by what they do not know.
func (m *Member) TellAttempts(t *AttemptTeller, a Attempts) error {
	r := t.report(a)
	m.mu.Lock()
	m.attemptNumber++
	r.Number = m.attemptNumber
	m.mu.Unlock()
	body, err := json.Marshal(&r)
	if err != nil {
		return fmt.Errorf("encode counted connections: %w", err)
	}
	if err := m.cluster.Send("", frame(kindAttempts, body)); err != nil {
		return fmt.Errorf("tell counted connections: %w", err)
	}
	return nil
}

// attempted takes what a peer counted.
func (m *Member) attempted(from string, payload []byte) error {
	var r attemptReport
	if err := json.Unmarshal(payload, &r); err != nil {
		return fmt.Errorf("counted connections: %w", err)
	}
	r.received = time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.attempts[from]
	if ok && r.Number <= old.Number && r.received.Sub(old.received) < voteTime {
		return nil // it was overtaken
	}
	r.known = maps.Clone(old.known)
	if r.known == nil {
		r.known = make(map[probe.Subject]health.Counts)
	}
	for service, backends := range r.Changed {
		for backend, counts := range backends {
			r.known[probe.Subject{Service: service, Backend: backend}] = counts
		}
	}
	maps.DeleteFunc(r.known, func(about probe.Subject, _ health.Counts) bool {
		_, watched := r.Services[about.Service]
		return !watched
	})
	m.attempts[from] = r
	return nil
}

// AttemptsByNode returns what the other directors that live counted, each that was heard within a time;
// of one that was not, nothing.
func (m *Member) AttemptsByNode(ctx context.Context, within time.Duration) (map[string]Attempts, error) {
	all := make(map[string]Attempts)
	err := m.within(ctx, func() {
		for _, member := range m.status.Members {
			if !member.Dead && member.Stage != ownership.StageLeft && member.Name != m.opts.Machine.Name {
				all[member.Name] = Attempts{}
			}
		}
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range all {
		if r := m.attempts[name]; time.Since(r.received) < within {
			all[name] = Attempts{Services: r.Services, Counts: r.known}
		}
	}
	return all, err
}
