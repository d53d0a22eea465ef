package datapath

import (
	"fmt"
	"time"
)

// AgeFlows makes all UDP flows that were noted older, and returns how many there are.
func (i *Instance) AgeFlows(by time.Duration) (int, error) { return i.set.ageFlows(by) }

// Flows returns how many UDP flows were noted.
func (v *View) Flows() (int, error) { return v.set.ageFlows(0) }

func (s *mapSet) ageFlows(by time.Duration) (int, error) {
	aged := make(map[lbUdpFlow]lbUdpSeen)
	var key lbUdpFlow
	var value lbUdpSeen
	it := s.maps["flows"].Iterate()
	for it.Next(&key, &value) {
		value.SeenNs -= uint64(by)
		aged[key] = value
	}
	for key, value := range aged {
		if err := s.maps["flows"].Put(&key, &value); err != nil {
			return 0, fmt.Errorf("age a flow: %w", err)
		}
	}
	return len(aged), it.Err()
}
