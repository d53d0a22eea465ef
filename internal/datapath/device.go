package datapath

import (
	"fmt"
	"net"
	"strings"
)

// findDevice is net.InterfaceByName with an error that helps.
func findDevice(name string) (*net.Interface, error) {
	device, err := net.InterfaceByName(name)
	if err == nil {
		return device, nil
	}
	var have []string
	all, listErr := net.Interfaces()
	if listErr != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	for i := range all {
		have = append(have, all[i].Name)
	}
	return nil, fmt.Errorf("interface %s: no such interface (have: %s)", name, strings.Join(have, ", "))
}
