package config

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/lbctl/lbctl/internal/lb"
)

// Parse reads a file's text for this machine: cluster.node defaults to its host name. The error is
// Errors.
func Parse(file string, src []byte) (*Config, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, Errors{{File: file, Line: 1, Column: 1, Message: "find this machine's name: " + err.Error()}}
	}
	return ParseFor(host, file, src)
}

// ParseFor is Parse on a machine with that host name.
func ParseFor(host, file string, src []byte) (*Config, error) {
	r := &reader{file: file}
	root, ok := r.load(src)
	if !ok {
		return nil, r.errs.sorted(src)
	}
	c := r.config(root, host)
	if len(r.errs) > 0 {
		return nil, r.errs.sorted(src)
	}
	return c, nil
}

var yamlLine = regexp.MustCompile(`line (\d+)(?:, column (\d+))?`)

// load parses the syntax; a file that is none of ours in size or form ends here.
func (r *reader) load(src []byte) (value, bool) {
	top := value{}
	if len(src) > maxBytes {
		r.fail(top, "", "the file is larger than %d bytes", maxBytes)
		return top, false
	}
	if len(bytes.TrimSpace(src)) == 0 {
		r.fail(top, "", "the file is empty")
		return top, false
	}
	var document yaml.Node
	if err := yaml.Unmarshal(src, &document); err != nil {
		r.syntax(err)
		return top, false
	}
	if aliases := countAliases(&document); aliases > 100 {
		r.fail(top, "", "%d aliases are more than 100", aliases)
		return top, false
	}
	if len(document.Content) != 1 {
		r.fail(top, "", "the file holds no mapping")
		return top, false
	}
	return value{node: deref(document.Content[0])}, true
}

func (r *reader) syntax(err error) {
	e := &Error{File: r.file, Line: 1, Column: 1, Message: strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		if m[2] != "" {
			e.Column, _ = strconv.Atoi(m[2])
		}
	}
	r.errs = append(r.errs, e)
}

func countAliases(n *yaml.Node) int {
	count := 0
	if n.Kind == yaml.AliasNode {
		count++ // its target is counted where it stands
	}
	for _, c := range n.Content {
		count += countAliases(c)
	}
	return count
}

func (r *reader) config(root value, host string) *Config {
	c := defaults()
	f := r.fields(root, "cluster", "interface", "attach", "shutdown", "drops", "vips", "services")
	r.cluster(&c, f["cluster"], host)
	c.Attach = r.word(f["attach"], c.Attach, "auto", "native", "generic")
	c.Shutdown = Shutdown(r.word(f["shutdown"], string(c.Shutdown), string(Leave), string(Withdraw)))
	drops := r.fields(f["drops"], "sample")
	c.SampleDrops = uint32(r.integer(drops["sample"], 0, maxSample, int(c.SampleDrops)))
	r.vips(&c, f["vips"], r.interfaceName(f["interface"]))
	r.services(&c, f["services"])
	return &c
}

func (r *reader) cluster(c *Config, v value, host string) {
	if !v.given() {
		r.fail(v, "", "missing")
		return
	}
	f := r.fields(v, "name", "seed", "node", "nodes")
	c.ClusterName = r.name(at(f["name"], v), "-", 32)
	c.Seed = r.seed(at(f["seed"], v))
	r.nodes(c, at(f["nodes"], v))
	r.local(c, at(f["node"], v), f["node"].given(), host)
}

// at gives a value that is missing the place of what it is missing from.
func at(v, parent value) value {
	if v.node == nil && parent.node != nil {
		v.node = &yaml.Node{Line: parent.node.Line, Column: parent.node.Column, Tag: "!!null"}
	}
	return v
}

func (r *reader) seed(v value) (seed [32]byte) {
	s, ok := r.text(v)
	if !ok {
		fresh := make([]byte, len(seed))
		rand.Read(fresh)
		r.fail(v, "add a secret of your own, the same on all nodes: seed: "+hex.EncodeToString(fresh), "missing")
		return seed
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(seed) {
		r.fail(v, "", "not 64 hexadecimal digits")
		return seed
	}
	return [32]byte(b)
}

func (r *reader) nodes(c *Config, v value) {
	items := r.items(v, false)
	if len(items) == 0 {
		r.fail(v, "", "names no node")
	}
	if len(items) > lb.MaxNodes {
		r.fail(v, "", "%d nodes are more than %d", len(items), lb.MaxNodes)
	}
	names := make(map[string]bool)
	addresses := make(map[netip.Addr]string)
	for _, item := range items {
		f := r.fields(item, "name", "addresses", "mac", "weight")
		n := Node{
			Name:   r.name(at(f["name"], item), ".-", maxName),
			MAC:    r.mac(f["mac"]),
			Weight: r.integer(f["weight"], 0, lb.MaxWeight, defaultWeight),
		}
		if names[n.Name] {
			r.fail(f["name"], "", "another node is called %q", n.Name)
		}
		names[n.Name] = true
		if n.MAC != nil && n.MAC[0]&1 != 0 {
			r.fail(f["mac"], "", "%s is the MAC of a group, not of a machine", n.MAC)
		}
		list := r.items(f["addresses"], true)
		if len(list) == 0 {
			r.fail(at(f["addresses"], item), "", "missing")
		}
		for _, a := range list {
			addr := r.address(a)
			if !addr.IsValid() {
				continue
			}
			if other, taken := addresses[addr]; taken {
				r.fail(a, "", "%s is an address of node %q already", addr, other)
			}
			addresses[addr] = n.Name
			n.Addresses = append(n.Addresses, addr)
		}
		c.Nodes = append(c.Nodes, n)
	}
}

func (r *reader) local(c *Config, v value, given bool, host string) {
	var names []string
	for _, n := range c.Nodes {
		names = append(names, n.Name)
	}
	c.Node = host
	if given {
		c.Node, _ = r.text(v)
	}
	for _, name := range names {
		if name == c.Node {
			return
		}
	}
	if given {
		r.fail(v, suggest(c.Node, names), "%q is not one of cluster.nodes", c.Node)
	} else if len(names) > 0 {
		r.fail(v, "say which one this machine is", "missing, and no node is called %q like this machine", host)
	}
}

func (r *reader) vips(c *Config, v value, fallback string) {
	items := r.items(v, false)
	if len(items) > maxVIPs {
		r.fail(v, "", "%d VIPs are more than %d", len(items), maxVIPs)
	}
	seen := make(map[netip.Addr]bool)
	for _, item := range items {
		f := r.fields(item, "address", "interface", "announce", "mac", "other")
		vip := VIP{
			Address:   r.address(at(f["address"], item)),
			Interface: fallback,
		}
		if f["interface"].given() {
			vip.Interface = r.interfaceName(f["interface"])
		} else if fallback == "" {
			r.fail(at(f["interface"], item), "give it here, or once at the top", "missing")
		}
		r.word(f["announce"], lb.AnnounceMulticast.String(), lb.AnnounceMulticast.String())
		r.sharedMAC(&vip, f["mac"])
		if r.word(f["other"], "pass", "pass", "drop") == "drop" {
			vip.Other = lb.OtherDrop
		}
		r.checkVIP(c, &vip, f["address"], seen)
		c.VIPs = append(c.VIPs, vip)
	}
}

func (r *reader) checkVIP(c *Config, vip *VIP, at value, seen map[netip.Addr]bool) {
	if !vip.Address.IsValid() {
		return
	}
	if seen[vip.Address] {
		r.fail(at, "", "%s is given twice", vip.Address)
	}
	seen[vip.Address] = true
	for _, n := range c.Nodes {
		for _, a := range n.Addresses {
			if a == vip.Address {
				r.fail(at, "", "%s is an address of node %q; a VIP is one that no node has for itself", a, n.Name)
			}
		}
		if vip.MACForm == lb.MACExplicit && n.MAC.String() == vip.MAC.String() {
			r.fail(at, "", "%s is the MAC of node %q; the shared one belongs to none", n.MAC, n.Name)
		}
	}
}

func (r *reader) sharedMAC(vip *VIP, v value) {
	forms := []lb.MACForm{lb.MACMulticast, lb.MACGroup, lb.MACUnicast}
	s, ok := r.text(v)
	if !ok {
		return
	}
	words := make([]string, len(forms))
	for i, form := range forms {
		words[i] = form.String()
		if s == words[i] {
			vip.MACForm = form
			return
		}
	}
	if !strings.ContainsAny(s, ":-") {
		r.fail(v, suggest(s, words), "%q is not one of %s, or a MAC", s, strings.Join(words, ", "))
		return
	}
	vip.MACForm, vip.MAC = lb.MACExplicit, r.mac(v)
	if m := vip.MAC; m != nil && (m[0] == 0x33 && m[1] == 0x33 || m[0] == 1 && m[1] == 0 && m[2] == 0x5e) {
		r.fail(v, `use "group", which also joins the group`, "%s is the MAC of an IP multicast group", m)
	}
}

func (r *reader) services(c *Config, v value) {
	names := make(map[string]bool)
	placed := &placement{taken: make(map[vipProtocol][]portOwner)}
	for _, item := range r.items(v, false) {
		f := r.fields(item, "name", "vips", "protocol", "ports", "hash", "source-net", "forward")
		s := Service{
			Name:     r.name(at(f["name"], item), "-", 40),
			VIPs:     r.serviceVIPs(c, at(f["vips"], item)),
			Protocol: r.protocol(f["protocol"]),
			Hash:     r.hash(f["hash"], f["source-net"]),
		}
		if names[s.Name] {
			r.fail(f["name"], "", "another service is called %q", s.Name)
		}
		names[s.Name] = true
		s.Ports = r.ports(at(f["ports"], item), f["ports"].given(), s.Protocol)
		r.word(f["forward"], lb.ForwardLocal.String(), lb.ForwardLocal.String())
		r.overlaps(placed, &s, at(f["ports"], item))
		c.Services = append(c.Services, s)
	}
	if placed.count > lb.MaxServices {
		r.fail(v, "", "%d services, one for each VIP they have, are more than %d", placed.count, lb.MaxServices)
	}
}

func (r *reader) serviceVIPs(c *Config, v value) []netip.Addr {
	items := r.items(v, true)
	if len(items) == 0 {
		r.fail(v, "", "names no VIP")
	}
	var known []string
	for _, vip := range c.VIPs {
		known = append(known, vip.Address.String())
	}
	var list []netip.Addr
	for _, item := range items {
		a := r.address(item)
		if !a.IsValid() {
			continue
		}
		found := false
		for _, vip := range c.VIPs {
			found = found || vip.Address == a
		}
		if !found {
			r.fail(item, suggest(a.String(), known), "%s is not one of vips", a)
		}
		for _, before := range list {
			if before == a {
				r.fail(item, "", "%s is given twice", a)
			}
		}
		list = append(list, a)
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
	bits := r.fields(net, "ipv4", "ipv6")
	fields := lb.HashFields{
		SourceBits4: r.integer(bits["ipv4"], 1, 32, defaultNetBits4),
		SourceBits6: r.integer(bits["ipv6"], 1, 128, defaultNetBits6),
	}
	if net.given() && name != "source-net" {
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

// Load reads and parses a file.
func Load(path string) (*Config, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, src)
}
