package demo

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// takeoverBound is the time in milliseconds within which new connections reach another node instead
// of one that died, with the timings that are the default.
const takeoverBound = 600

// A Result is what the clients saw.
type Result struct {
	Scenario         Scenario       `json:"scenario"`
	Connections      int            `json:"connections"`        // made, half of them over IPv6
	Broken           int            `json:"broken"`             // failed, or held ones that broke, on nodes that live
	DiedWithNode     int            `json:"died_with_node"`     // those on the node that crashed, or was cut off
	PerNode          map[string]int `json:"per_node"`           // who answered: nodes, or backends behind them
	DuplicateAnswers int            `json:"duplicate_answers"`  // SYNs that two nodes answered
	DuplicateSynAcks int            `json:"duplicate_syn_acks"` // SYN-ACKs that were one too many
	SynRetransmits   int            `json:"syn_retransmits"`    // SYNs that were sent again, for want of an answer
	StalledOver1s    int            `json:"stalled_over_1s"`    // answers that took longer, as after a lost SYN
	LongestGapMS     float64        `json:"longest_gap_ms"`     // slowest answer, of a new connection or a held one
	// TakeoverMS is the time from the crash, or cut, until every new connection was answered again;
	// 0 where nothing crashes.
	TakeoverMS float64 `json:"takeover_ms"`

	wrong []string // what the scenario found besides
}

// Failed tells which promise of the scenario did not hold, or returns nil. Where the nodes do not move
// anything a slow answer is no failure by itself: the machine may be busy.
func (r *Result) Failed() error {
	var wrong []string
	fail := func(is bool, format string, args ...any) {
		if is {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	fail(r.Connections == 0, "no connection was made")
	fail(r.Broken > 0, "%d connections broke", r.Broken)
	fail(r.DuplicateAnswers > 0, "%d connections were answered twice", r.DuplicateAnswers)
	if r.Scenario.planned() {
		fail(r.StalledOver1s > 0, "%d answers took over a second", r.StalledOver1s)
	}
	if r.Scenario.faulty() {
		fail(r.TakeoverMS == 0, "nobody took over")
		fail(r.TakeoverMS >= takeoverBound, "the others took over after %.0f ms, not within %d", r.TakeoverMS, takeoverBound)
	}
	for _, name := range slices.Sorted(maps.Keys(r.PerNode)) {
		fail(r.PerNode[name] == 0, "%s answered nobody", name)
	}
	if wrong = append(wrong, r.wrong...); len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, ", "))
}

// summary is the last line for people.
func (r *Result) summary() string {
	text := fmt.Sprintf("%d connections, %d broken, %d answered twice; %d SYNs sent again, %d answers over a second, the slowest %.0f ms",
		r.Connections, r.Broken, r.DuplicateAnswers, r.SynRetransmits, r.StalledOver1s, r.LongestGapMS)
	if r.Scenario.faulty() {
		text += fmt.Sprintf("; taken over after %.0f ms, %d connections ended with the node", r.TakeoverMS, r.DiedWithNode)
	}
	return text
}
