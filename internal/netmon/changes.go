package netmon

import (
	"maps"
	"slices"
)

// changes collects interface names until they are told.
type changes struct {
	links, addresses, neighbours set
}

// A set of interface names; the zero value is empty.
type set map[string]bool

func (s *set) add(name string) {
	if *s == nil {
		*s = make(set)
	}
	(*s)[name] = true
}

func (c *changes) empty() bool {
	return len(c.links)+len(c.addresses)+len(c.neighbours) == 0
}

func (c *changes) event() Event {
	return Event{
		Links:      slices.Sorted(maps.Keys(c.links)),
		Addresses:  slices.Sorted(maps.Keys(c.addresses)),
		Neighbours: slices.Sorted(maps.Keys(c.neighbours)),
	}
}
