package health

import (
	"math"
	"strconv"
	"strings"
)

// An AgentHealth is what an agent says of its service's health.
type AgentHealth uint8

// What an agent says of its service's health. The last three all take it out; which one it was is
// for people.
const (
	AgentSilent  AgentHealth = iota // nothing yet: the checks alone decide
	AgentUp                         // "up": the checks alone decide
	AgentDown                       // "down": somebody decided so
	AgentFail                       // "fail": the agent's own test of the service failed
	AgentStopped                    // "stopped": the service is not running
)

var agentHealthNames = [...]string{
	AgentSilent: "silent", AgentUp: "up", AgentDown: "down", AgentFail: "fail", AgentStopped: "stopped",
}

// String returns the agent's word.
func (h AgentHealth) String() string {
	if int(h) < len(agentHealthNames) {
		return agentHealthNames[h]
	}
	return "invalid"
}

// Bad says whether the word takes the service out.
func (h AgentHealth) Bad() bool { return h >= AgentDown }

// MaxPercent is the largest part of its weight that an agent can ask for.
const MaxPercent = 25600

// A Reply is a line that an agent sent, in the words of HAProxy's agent-check: separated by spaces,
// tabs or commas, in any order and any case.
//
//	up                  healthy, if the checks say so too
//	down fail stopped   not healthy, whatever the checks say; "# text" at the end says why
//	ready               cancels drain and maint of the agent
//	drain               no new flows, old ones live on
//	maint               the same, and a word for people: it is being worked on
//	75%                 of the configured weight, 0 % to 25600 %
//	maxconn:100         is only shown: nothing limits the connections of a service here
//
// What a line does not mention stays as it was. Of two words of one kind the last one counts.
type Reply struct {
	Health  AgentHealth // AgentSilent: not mentioned
	Admin   *Admin      // nil: not mentioned
	Percent *int        // 0..MaxPercent; nil: not mentioned
	MaxConn *int        // 0..2^31-1; nil: not mentioned
	Note    string      // behind the "#"
	Ignored []string    // words that mean nothing
}

// ParseReply reads a line and ignores what follows its end. Unknown words go to Ignored.
func ParseReply(line string) Reply {
	var r Reply
	if end := strings.IndexAny(line, "\r\n\x00"); end >= 0 {
		line = line[:end]
	}
	separator := func(c rune) bool { return c == ' ' || c == '\t' || c == ',' }
	for {
		line = strings.TrimLeftFunc(line, separator)
		if note, ok := strings.CutPrefix(line, "#"); ok {
			r.Note = strings.Trim(note, " \t")
			return r
		}
		if line == "" {
			return r
		}
		end := strings.IndexFunc(line, separator)
		if end < 0 {
			end = len(line)
		}
		r.word(line[:end])
		line = line[end:]
	}
}

func (r *Reply) word(word string) {
	switch lower := strings.ToLower(word); lower {
	case "up":
		r.Health = AgentUp
	case "down":
		r.Health = AgentDown
	case "fail":
		r.Health = AgentFail
	case "stopped":
		r.Health = AgentStopped
	case "ready":
		r.Admin = new(AdminReady)
	case "drain":
		r.Admin = new(AdminDrain)
	case "maint":
		r.Admin = new(AdminMaint)
	default:
		if digits, ok := strings.CutSuffix(lower, "%"); ok && number(digits, MaxPercent, &r.Percent) {
			return
		}
		if digits, ok := strings.CutPrefix(lower, "maxconn:"); ok && number(digits, math.MaxInt32, &r.MaxConn) {
			return
		}
		r.Ignored = append(r.Ignored, word)
	}
}

// number sets what to the number that the digits are, if they are one of 0..most.
func number(digits string, most int, what **int) bool {
	n, err := strconv.ParseUint(digits, 10, 32) // takes no sign
	if err != nil || n > uint64(most) {
		return false
	}
	*what = new(int(n))
	return true
}

// Empty says whether the line had no word with a meaning.
func (r Reply) Empty() bool {
	return r.Health == AgentSilent && r.Admin == nil && r.Percent == nil && r.MaxConn == nil
}

// An Agent is what an agent said so far. The zero Agent said nothing, and changes nothing. So does
// an agent that can't be reached: whether a service can be is what checks are for.
type Agent struct {
	Health  AgentHealth
	Note    string // of the line with Health
	Admin   Admin
	Percent *int // nil: 100 %
	MaxConn *int // nil: not mentioned
}

// Apply returns the agent after one more line.
func (a Agent) Apply(r Reply) Agent {
	if r.Health != AgentSilent {
		a.Health, a.Note = r.Health, r.Note
	}
	if r.Admin != nil {
		a.Admin = *r.Admin
	}
	if r.Percent != nil {
		a.Percent = r.Percent
	}
	if r.MaxConn != nil {
		a.MaxConn = r.MaxConn
	}
	return a
}

// Equal says whether both said the same.
func (a Agent) Equal(b Agent) bool {
	return a.Health == b.Health && a.Note == b.Note && a.Admin == b.Admin &&
		equal(a.Percent, b.Percent) && equal(a.MaxConn, b.MaxConn)
}

func equal(a, b *int) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
