package config

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

func (r *reader) services(c *Config, v value) {
	items, _ := r.items(v, false)
	names := make(map[string]bool)
	placed := &placement{owners: make(map[vipProtocol][]portOwner)}
	for i, item := range items {
		f, ok := r.fields(item, "name", "vips", "protocol", "ports", "hash", "source-net", "forward",
			"encap", "source-nat", "scheduler", "affinity", "overflow", "mss", "flow-idle", "backends",
			"agree", "min-backends", "max-fails", "fail-timeout", "slow-start", "sorry", "min-nodes", "udp-idle", "checks", "maxconn", "weight")
		if !ok {
			continue
		}
		for _, key := range []string{"maxconn", "weight"} {
			if f[key].given() {
				r.fail(f[key], fmt.Sprintf("backends: [{address: 192.0.2.21, %s: 100}]", key), "each backend has its own")
			}
		}
		s := Service{
			Name:     r.name(at(f["name"], item), "-", 40),
			VIPs:     r.serviceVIPs(c, at(f["vips"], item)),
			Protocol: r.protocol(f["protocol"]),
			Hash:     r.hash(f["hash"], f["source-net"]),
		}
		if s.Name != "" && names[s.Name] {
			r.fail(f["name"], "", "another service is called %q", s.Name)
		}
		names[s.Name] = true
		ports := at(f["ports"], item)
		s.Ports = r.ports(ports, s.Protocol)
		if s.Forward = r.forward(f); s.Forward != lb.ForwardLocal {
			r.forwarding(c, &s, f, item)
		}
		s.MinNodes = r.integer(f["min-nodes"], 1, lb.MaxNodes, 1)
		s.UDPIdle = r.duration(f["udp-idle"], time.Second, time.Minute, defaultUDPIdle)
		r.checks(c, &s, f["checks"])
		if placed.add(&s, i, ports); placed.count > lb.MaxServices {
			r.fail(v, "", "more than %d services, counting one for each VIP they have", lb.MaxServices)
			return
		}
		c.Services = append(c.Services, s)
	}
	r.overlaps(placed)
	r.sourcePorts(c, placed)
}

func (r *reader) serviceVIPs(c *Config, v value) []netip.Addr {
	items, ok := r.items(v, true)
	if ok && len(items) == 0 {
		r.fail(v, "", "names no VIP")
	}
	known := make([]string, len(c.VIPs))
	for i := range c.VIPs {
		known[i] = c.VIPs[i].Address.String()
	}
	var list []netip.Addr
	for _, item := range items {
		a := r.address(item)
		switch {
		case !a.IsValid():
		case !r.partial && !slices.Contains(known, a.String()):
			r.fail(item, r.suggest(a.String(), known), "%s is not one of vips", a)
		case slices.Contains(list, a):
			r.fail(item, "", "%s is given twice", a)
		default:
			list = append(list, a)
		}
	}
	return list
}

func (r *reader) protocol(v value) lb.Protocol {
	switch r.word(v, defaultProtocol.String(), "tcp", "udp", "any") {
	case "udp":
		return lb.ProtocolUDP
	case "any":
		return lb.ProtocolAny
	}
	return lb.ProtocolTCP
}

func (r *reader) hash(v, net value) lb.HashFields {
	name := r.word(v, defaultHash.String(), "source", "source+port", "source+port+dest-port", "source-net")
	bits, _ := r.fields(net, "ipv4", "ipv6")
	fields := lb.HashFields{
		SourceBits4: r.integer(bits["ipv4"], 1, 32, defaultNetBits4),
		SourceBits6: r.integer(bits["ipv6"], 1, 128, defaultNetBits6),
	}
	refused := v.given() && v.node.Value != name
	if net.given() && name != "source-net" && !refused {
		r.fail(net, "", `only "hash: source-net" has prefix lengths`)
	}
	switch name {
	case "source":
		return lb.HashSource
	case "source+port":
		return lb.HashSourcePort
	case "source+port+dest-port":
		return lb.HashSourcePortDestPort
	}
	return fields
}
