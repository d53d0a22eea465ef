package control

import "github.com/lbctl/lbctl/internal/config"

// A ReloadResult says what reading the file again has changed.
type ReloadResult struct {
	Generation uint64          `json:"generation"` // of the state that is now applied
	Changes    []config.Change `json:"changes"`    // empty: the file says what was in force
}
