package control

import "github.com/lbctl/lbctl/internal/config"

// A ConfigDiff is what a configuration would change.
type ConfigDiff struct {
	Changes []config.Change `json:"changes"`         // empty: the file says what is in force
	Moves   []SlotMoves     `json:"moves,omitempty"` // of services whose flows would be spread another way
}

// SlotMoves says how much of what is new in a service would go to another backend. Flows that are
// open stay where they are, unless their backend is gone or the slots are found by another hash.
type SlotMoves struct {
	Service string  `json:"service"`
	Slots   int     `json:"slots"`
	Share   float64 `json:"share"` // of all slots, 0..1
}

// A ReloadResult says what reading the file again has changed.
type ReloadResult struct {
	Generation uint64          `json:"generation"` // of the state that is now applied
	Changes    []config.Change `json:"changes"`    // empty: the file says what was in force
}
