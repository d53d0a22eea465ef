package datapath

// Attempts returns what this instance counted of the backends that are watched.
func (i *Instance) Attempts() ([]Attempt, error) { return i.set.attempts() }
