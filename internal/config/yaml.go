package config

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/lbctl/lbctl/internal/lb"
)

// YAML renders the effective configuration, defaults filled in. Parsed again it is the same.
func (c *Config) YAML() []byte {
	if c.Backend != nil {
		return c.backendYAML()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "cluster:\n  name: %s\n  seed: %q\n  node: %q\n  nodes:\n",
		quoted(c.ClusterName), hex.EncodeToString(c.Seed[:]), c.Node)
	for _, n := range c.Nodes {
		fmt.Fprintf(&b, "    - name: %q\n      addresses: [%s]\n", n.Name, addresses(n.Addresses))
		if n.MAC != nil {
			fmt.Fprintf(&b, "      mac: %q\n", n.MAC)
		}
		fmt.Fprintf(&b, "      weight: %d\n", n.Weight)
	}
	if c.Membership != nil {
		b.WriteString("  membership:\n")
		block(&b, "    ", "    ", c.Membership.settings())
	}
	fmt.Fprintf(&b, "attach: %s\nshutdown: %s\ndrops:\n  sample: %d\n", c.Attach, c.Shutdown, c.SampleDrops)
	section(&b, "vips", len(c.VIPs))
	for _, v := range c.VIPs {
		fmt.Fprintf(&b, "  - address: %q\n    interface: %q\n    announce: %s\n    mac: %s\n    other: %s\n",
			v.Address, v.Interface, v.Announce, v.macText(), v.Other)
		block(&b, "    ", "    ", v.ofFailover())
	}
	section(&b, "services", len(c.Services))
	for _, s := range c.Services {
		fmt.Fprintf(&b, "  - name: %q\n    vips: [%s]\n    protocol: %s\n    ports: [%s]\n",
			s.Name, addresses(s.VIPs), s.Protocol, portList(s.Ports))
		fmt.Fprintf(&b, "    hash: %s\n", hashName(s.Hash))
		if hashName(s.Hash) == "source-net" {
			fmt.Fprintf(&b, "    source-net:\n      ipv4: %d\n      ipv6: %d\n", s.Hash.SourceBits4, s.Hash.SourceBits6)
		}
		fmt.Fprintf(&b, "    forward: %s\n", s.Forward)
		if c.Membership != nil || !s.usual() {
			block(&b, "    ", "    ", s.ofHealth())
		}
		if s.Forward != lb.ForwardLocal {
			block(&b, "    ", "    ", s.ofForwarding(c.Membership != nil))
			if s.Sorry != nil {
				b.WriteString("    sorry:\n")
				block(&b, "      ", "      ", append(s.Sorry.naming(), s.Sorry.place()...))
			}
			b.WriteString("    backends:\n")
		}
		for i := range s.Backends {
			block(&b, "      - ", "        ", append(s.Backends[i].naming(), s.Backends[i].settings(s.Watches())...))
		}
		if len(s.Checks) > 0 {
			b.WriteString("    checks:\n")
		}
		for _, check := range s.Checks {
			block(&b, "      - ", "        ", check.settings())
		}
	}
	if len(c.Masquerade) > 0 {
		b.WriteString("masquerade:\n")
	}
	for i := range c.Masquerade {
		block(&b, "  - ", "    ", masqueradeSettings(&c.Masquerade[i]))
	}
	if len(c.Hooks) > 0 {
		b.WriteString("hooks:\n")
	}
	for _, h := range c.Hooks {
		block(&b, "  - ", "    ", h.settings())
	}
	return []byte(b.String())
}

func section(b *strings.Builder, name string, n int) {
	if n == 0 {
		fmt.Fprintf(b, "%s: []\n", name)
		return
	}
	fmt.Fprintf(b, "%s:\n", name)
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

func addresses(list []netip.Addr) string {
	parts := make([]string, len(list))
	for i, a := range list {
		parts[i] = quoted(a.String())
	}
	return strings.Join(parts, ", ")
}

func portList(list []lb.PortRange) string {
	parts := make([]string, len(list))
	for i, p := range list {
		parts[i] = quoted(p.String())
	}
	return strings.Join(parts, ", ")
}

func (v *VIP) macText() string {
	if v.MACForm == lb.MACExplicit {
		return quoted(v.MAC.String())
	}
	return v.MACForm.String()
}

func hashName(h lb.HashFields) string {
	name, _, _ := strings.Cut(h.String(), "/")
	return name
}
