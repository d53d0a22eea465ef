package netlab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Sysctl reads a setting below net inside the host: "net.ipv4.ip_forward", or with slashes when
// an interface's name has a dot: "net/ipv4/conf/eth0.7/forwarding".
func (h *Host) Sysctl(name string) (string, error) {
	var value []byte
	err := h.Do(func() (err error) {
		value, err = os.ReadFile(sysctlPath(name))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("host %s: sysctl %s: %w", h.Name, name, err)
	}
	return strings.TrimSpace(string(value)), nil
}

// SetSysctl writes a setting below net inside the host.
func (h *Host) SetSysctl(name, value string) error {
	err := h.Do(func() error {
		// Never created: a name that the kernel does not know is a mistake.
		return os.WriteFile(sysctlPath(name), []byte(value), 0)
	})
	if err != nil {
		return fmt.Errorf("host %s: sysctl %s: %w", h.Name, name, err)
	}
	return nil
}

func sysctlPath(name string) string {
	if !strings.Contains(name, "/") {
		name = strings.ReplaceAll(name, ".", "/")
	}
	return filepath.Join("/proc/sys", name)
}

// Forward makes the host a router.
func (h *Host) Forward() error {
	for _, name := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if err := h.SetSysctl(name, "1"); err != nil {
			return err
		}
	}
	return nil
}

// prepare brings a new namespace into the state that Lab.Host promises.
func (h *Host) prepare() error {
	for _, conf := range []string{"all", "default"} {
		for name, value := range map[string]string{
			"accept_dad":           "0", // or addresses are tentative for a second
			"dad_transmits":        "0",
			"accept_ra":            "0",
			"router_solicitations": "0", // nobody answers
		} {
			if err := h.SetSysctl("net.ipv6.conf."+conf+"."+name, value); err != nil {
				return err
			}
		}
	}
	return h.Up("lo")
}
