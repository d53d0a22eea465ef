package health

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lbctl/lbctl/internal/lb"
)

// An Admin is what somebody decided, whatever the health.
type Admin uint8

// The decisions.
const (
	AdminReady Admin = iota // serve
	AdminDrain              // no new flows, old ones live on
	AdminMaint              // the same; it is being worked on
)

var adminNames = [...]string{AdminReady: "ready", AdminDrain: "drain", AdminMaint: "maint"}

// String returns the word that agents use.
func (a Admin) String() string {
	if int(a) < len(adminNames) {
		return adminNames[a]
	}
	return "invalid"
}

// A Service is all that bears on what one service of one node gets. Its three parts are
// independent: a service that is drained by hand stays drained when its checks come up, an agent
// that says "ready" cancels its own "drain" and nobody else's, and a check that fails meanwhile is
// seen when the drain ends.
type Service struct {
	Weight int               // configured or set by hand, 0..lb.MaxWeight
	Admin  Admin             // decided by hand
	Checks map[string]State  // by name; all must be up. Those of agents are not among them
	Why    map[string]string // what made checks what they are, by name; may be nil
	Agents map[string]Agent  // by name of the check
}

// A Verdict says what a service gets.
type Verdict struct {
	// Weight is its share of new flows, 0..lb.MaxWeight: what people and agents decided. It
	// counts even where too few nodes are healthy and health is ignored.
	Weight int
	// Healthy says that checks and agents find nothing wrong.
	Healthy bool
	// Reason says in one line why it is not healthy or has another weight; empty: it is as
	// configured.
	Reason string
}

// Verdict combines everything. The reason is the first of: decided by hand, decided by an agent, an
// agent's bad news, a check, a percentage; of several alike, the first by name.
func (s Service) Verdict() Verdict {
	v := Verdict{Weight: min(max(s.Weight, 0), lb.MaxWeight), Healthy: true}
	v.admin(s.Admin, "by hand")
	agents := slices.Sorted(maps.Keys(s.Agents))
	for _, name := range agents {
		v.admin(s.Agents[name].Admin, "by agent "+name)
	}
	for _, name := range agents {
		if agent := s.Agents[name]; agent.Health.Bad() {
			v.sick(fmt.Sprintf("agent %s says %s", name, agent.Health), agent.Note)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Checks)) {
		if state := s.Checks[name]; state != Up {
			v.sick(fmt.Sprintf("check %s is %s", name, state), s.Why[name])
		}
	}
	for _, name := range agents {
		v.scale(name, s.Agents[name].Percent)
	}
	return v
}

func (v *Verdict) admin(admin Admin, by string) {
	if admin == AdminReady {
		return
	}
	v.Weight = 0
	v.because(fmt.Sprintf("%s %s", admin, by))
}

func (v *Verdict) sick(reason, note string) {
	if note != "" {
		reason += ": " + note
	}
	v.Healthy = false
	v.because(reason)
}

// scale leaves at least 1, or a small percentage of a small weight would drain a service.
func (v *Verdict) scale(agent string, percent *int) {
	if percent == nil || *percent == 100 || v.Weight == 0 {
		return
	}
	v.Weight = min(v.Weight**percent/100, lb.MaxWeight)
	if *percent > 0 {
		v.Weight = max(v.Weight, 1)
	}
	v.because(fmt.Sprintf("agent %s wants %d %% of the weight", agent, *percent))
}

func (v *Verdict) because(reason string) {
	if v.Reason == "" {
		v.Reason = reason
	}
}
