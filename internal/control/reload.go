package control

import "github.com/lbctl/lbctl/internal/config"

// A ConfigDiff is what a configuration would change.
type ConfigDiff struct {
	Changes []config.Change `json:"changes"`           // empty: the file says what is in force
	Refused string          `json:"refused,omitempty"` // why a reload would not take the file; then no more is told
	Alike   bool            `json:"alike,omitempty"`   // something changes that all nodes must have alike
	Moves   []SlotMoves     `json:"moves,omitempty"`   // of services whose flows would be spread another way
	Flows   []FlowMoves     `json:"flows,omitempty"`   // of services whose open flows it bears on
}

// SlotMoves says how much of what is new in a service would go to another backend. Flows that are
// open stay where they are, unless their backend is gone or the slots are found by another hash.
type SlotMoves struct {
	Service string  `json:"service"`
	Slots   int     `json:"slots"`
	Share   float64 `json:"share"` // of all slots, 0..1
}

// FlowMoves says what becomes of a service's open flows at this node. Most flows to backends are known to
// nobody one by one, and need not be: they stay while slots move.
type FlowMoves struct {
	Service   string  `json:"service"`
	Known     int     `json:"known"`               // connections of this node, or flows that its datapath remembers
	Moved     int     `json:"moved"`               // of those: they would come to another node or backend, or to none, and break
	Share     float64 `json:"share"`               // of the flows that nobody remembers, how many would, 0..1
	Uncounted bool    `json:"uncounted,omitempty"` // of these some would, and nothing says how many
	Why       string  `json:"why"`                 // what moves them, or keeps them
}

// Breaks says whether open flows would break, or may.
func (m FlowMoves) Breaks() bool { return m.Moved > 0 || m.Share > 0 || m.Uncounted }

// A ReloadResult says what reading the file again has changed.
type ReloadResult struct {
	Generation uint64          `json:"generation"`      // of the state that is now applied
	Changes    []config.Change `json:"changes"`         // empty: the file says what was in force
	Flows      []FlowMoves     `json:"flows,omitempty"` // of services whose open flows it broke, or may have
}
