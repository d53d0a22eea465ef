package config

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/lbctl/lbctl/internal/lb"
)

// forward reads what the owner of a flow does with it, and refuses what belongs to other ways.
func (r *reader) forward(f map[string]value) lb.Forward {
	words := []string{lb.ForwardLocal.String(), lb.ForwardDR.String(), lb.ForwardNAT.String(), lb.ForwardTunnel.String()}
	forward := lb.ForwardLocal
	others := []string{"backends", "scheduler", "affinity", "overflow", "encap", "source-nat", "mss", "flow-idle", "agree", "min-backends", "max-fails", "fail-timeout", "slow-start", "sorry"}
	switch word := r.word(f["forward"], words[0], words...); {
	case r.wrong(f["forward"]):
		return forward // not so: what it is could not be read
	case word == lb.ForwardDR.String():
		forward, others = lb.ForwardDR, []string{"min-nodes", "encap", "source-nat"}
	case word == lb.ForwardNAT.String():
		forward, others = lb.ForwardNAT, []string{"min-nodes", "encap"}
	case word == lb.ForwardTunnel.String():
		forward, others = lb.ForwardTunnel, []string{"min-nodes", "source-nat"}
	}
	for _, key := range others {
		if f[key].given() {
			r.fail(f[key], "", "a service with forward %q has no such key", forward.String())
		}
	}
	return forward
}

// forwarding reads what only services with backends have.
func (r *reader) forwarding(c *Config, s *Service, f map[string]value, item value) {
	if r.word(f["encap"], lb.EncapIP.String(), lb.EncapIP.String(), lb.EncapGUE.String()) == lb.EncapGUE.String() {
		s.Encap = lb.EncapGUE
	}
	s.SourceNAT = r.boolean(f["source-nat"], false)
	r.scheduler(s, f["scheduler"], f["hash"])
	s.Affinity = r.duration(f["affinity"], 0, 24*time.Hour, 0)
	if r.word(f["overflow"], lb.OverflowNext.String(), lb.OverflowNext.String(), lb.OverflowDrop.String()) == lb.OverflowDrop.String() {
		s.Overflow = lb.OverflowDrop
	}
	s.MSS = uint16(r.integer(f["mss"], minMSS, maxMSS, 0))
	if s.MSS != 0 && s.Protocol == lb.ProtocolUDP {
		r.fail(f["mss"], "", "only TCP has segments")
	}
	s.FlowIdle = r.duration(f["flow-idle"], time.Minute, 24*time.Hour, defaultFlowIdle)
	s.Agree = r.integer(f["agree"], 1, 100, defaultAgree)
	if f["agree"].given() && c.Membership == nil && !r.toldStatic {
		r.fail(f["agree"], "add cluster.membership, or leave it out", "the nodes of this file do not tell each other what they find")
	}
	s.MinBackends = r.integer(f["min-backends"], 0, lb.MaxBackends, 0)
	s.Fails = r.fails(c, s, f, Fails{Timeout: defaultFailTimeout})
	r.backends(c, s, f, item)
	r.enough(s, f["min-backends"])
	if f["fail-timeout"].given() && !f["max-fails"].given() && !s.Watches() {
		r.fail(f["fail-timeout"], "add max-fails", "without max-fails, nothing takes a backend out")
	}
	if !s.Watches() {
		s.forgetFails()
	}
	if s.Forward == lb.ForwardNAT {
		r.translation(s, f, item)
	}
}

// schedulerSource is lb.SchedulerMaglev by another name.
const schedulerSource = "source"

// scheduler takes "source" for another way to say which hash.
func (r *reader) scheduler(s *Service, v, hash value) {
	schedulers := []lb.Scheduler{lb.SchedulerMaglev, lb.SchedulerRoundRobin, lb.SchedulerLeastConn, lb.SchedulerRandom}
	words := []string{schedulerSource}
	for _, scheduler := range schedulers {
		words = append(words, scheduler.String())
	}
	word := r.word(v, lb.SchedulerMaglev.String(), words...)
	if word != schedulerSource {
		s.Scheduler = schedulers[slices.Index(words, word)-1]
		return
	}
	switch name := hashName(s.Hash); {
	case !hash.given():
		s.Hash = lb.HashSource
	case name != "source" && name != "source-net" && !r.wrong(hash):
		r.fail(v, `leave the hash out, or make it "source" or "source-net"`, "the hash %q is of more than the source", name)
	}
}

func (r *reader) backends(c *Config, s *Service, f map[string]value, item value) {
	v := at(f["backends"], item)
	items, ok := r.items(v, true)
	switch {
	case !ok:
		return
	case len(items) == 0:
		r.fail(v, "", "names no backend")
		return
	case len(items) > lb.MaxBackends:
		r.fail(v, "", "%d backends are more than %d", len(items), lb.MaxBackends)
		return
	}
	if r.servers += len(items); r.servers > maxServers {
		r.fail(v, "", "more than %d backends, those of all services together", maxServers)
		return
	}
	slow := r.duration(f["slow-start"], 0, maxSlowStart, 0)
	seen := &servers{names: make(map[string]bool), owners: make(map[netip.AddrPort]string)}
	for _, item := range items {
		own, ok := onlyAddress(item)
		if !ok {
			own, ok = r.fields(item, "name", "address", "port", "weight", "backup", "down", "slow-start", "maxconn", "max-fails", "fail-timeout")
		}
		if !ok {
			continue
		}
		if b, ok := r.server(c, s, item, own, seen); ok {
			b.SlowStart = r.duration(own["slow-start"], 0, maxSlowStart, slow)
			b.Fails = r.fails(c, s, own, s.Fails)
			if own["fail-timeout"].given() && !own["max-fails"].given() && !f["max-fails"].given() && !r.wrong(own["fail-timeout"]) {
				r.fail(own["fail-timeout"], "add max-fails", "without max-fails, nothing takes the backend out")
			}
			b.MaxConn = r.integer(own["maxconn"], 0, lb.MaxConn, 0)
			s.Backends = append(s.Backends, b)
		}
	}
	r.sorry(c, s, f["sorry"], seen)
}

// enough refuses to want more backends than there are: checks would never count. One that is down for a
// while is there.
func (r *reader) enough(s *Service, v value) {
	if n := len(s.Backends); n > 0 && s.MinBackends > n {
		r.fail(v, fmt.Sprintf("give %d at most", n), "the service has %d backends, so checks would never count", n)
	}
}

// fails reads when connections that fail take a backend out. It refuses the keys where nodes would not
// see that they do, or could be made to see it by anyone.
func (r *reader) fails(c *Config, s *Service, f map[string]value, fallback Fails) Fails {
	for _, key := range []string{"max-fails", "fail-timeout"} {
		if v := f[key]; v.given() {
			if hint, problem := r.blind(c, s); problem != "" {
				r.fail(v, hint, "%s", problem)
				return fallback
			}
		}
	}
	return Fails{
		Max:     r.integer(f["max-fails"], 0, maxFails, fallback.Max),
		Timeout: r.duration(f["fail-timeout"], time.Second, time.Hour, fallback.Timeout),
	}
}

// forgetFails drops times that nothing needs.
func (s *Service) forgetFails() {
	s.Fails = Fails{}
	for i := range s.Backends {
		s.Backends[i].Fails = Fails{}
	}
}

// blind says why nodes do not see what becomes of the connections of a service, and what helps.
func (r *reader) blind(c *Config, s *Service) (hint, problem string) {
	single := len(s.Ports) == 1 && s.Ports[0].First == s.Ports[0].Last
	switch {
	case s.Forward != lb.ForwardNAT:
		return "use checks instead, with via: vip",
			fmt.Sprintf("with forward %q, backends' answers do not pass here: who fails is not seen", s.Forward.String())
	case s.Protocol != lb.ProtocolTCP:
		return "", "only TCP tells which connections fail"
	case !single && len(s.Ports) > 0:
		return "make a service for each port", "a client that asks for a port that is closed would take the others out, too"
	case c.Membership == nil && len(c.Nodes) > 1 && !r.toldStatic:
		return "add cluster.membership", "the nodes of this file do not tell each other what they see, and replies may come by another one"
	}
	return "", ""
}

func (r *reader) sorry(c *Config, s *Service, v value, seen *servers) {
	if !v.given() {
		return
	}
	f, ok := onlyAddress(v)
	if !ok {
		f, ok = r.fields(v, "name", "address", "port")
	}
	if !ok {
		return
	}
	if b, ok := r.server(c, s, v, f, seen); ok {
		s.Sorry = &b
	}
}

// servers are the backends of a service so far, to find two that are the same.
type servers struct {
	names  map[string]bool
	owners map[netip.AddrPort]string
}

func (r *reader) server(c *Config, s *Service, v value, f map[string]value, seen *servers) (Backend, bool) {
	b := Backend{
		Address: r.backendAddress(c, at(f["address"], v)),
		Weight:  r.integer(f["weight"], 0, lb.MaxWeight, defaultWeight),
		Backup:  r.boolean(f["backup"], false),
		Down:    r.boolean(f["down"], false),
	}
	if !b.Address.IsValid() {
		return Backend{}, false
	}
	b.Port = r.serverPort(s, f["port"])
	if s.Forward == lb.ForwardNAT && len(s.VIPs) == 1 && b.Address.Is4() != s.VIPs[0].Is4() {
		r.fail(f["address"], "", "%s is not of the family of the VIP, %s", b.Address, s.VIPs[0])
	}
	place := netip.AddrPortFrom(b.Address, b.Port)
	owner, taken := seen.owners[place]
	if taken {
		r.fail(f["address"], "", "%s is the address of backend %q already", b.defaultName(), owner)
	}
	b.Name = b.defaultName()
	if f["name"].given() {
		b.Name = r.name(f["name"], ".-", maxName)
	}
	if seen.names[b.Name] && b.Name != "" && !taken {
		r.fail(at(f["name"], v), "", "another backend of the service is called %q", b.Name)
	}
	seen.names[b.Name], seen.owners[place] = true, b.Name
	return b, true
}

// serverPort is another port than the packet's own. With several, there would be one for all of them.
func (r *reader) serverPort(s *Service, v value) uint16 {
	switch {
	case !v.given():
	case s.Forward != lb.ForwardNAT:
		r.fail(v, "", "with forward %q, ports stay as they are", s.Forward.String())
	case len(s.Ports) != 1 || s.Ports[0].First != s.Ports[0].Last:
		r.fail(v, "make a service for each port", "the service has several ports")
	default:
		return uint16(r.integer(v, 1, maxPorts, 0))
	}
	return 0
}

// defaultName is that of a backend without a name.
func (b *Backend) defaultName() string {
	if b.Port != 0 {
		return netip.AddrPortFrom(b.Address, b.Port).String()
	}
	return b.Address.String()
}

// A reply is what NAT knows the reply of a backend by; port 0 is any.
type reply struct {
	backend  netip.Addr
	port     uint16
	protocol lb.Protocol
}

// translation refuses what would leave open which VIP a reply gets for its source.
func (r *reader) translation(s *Service, f map[string]value, item value) {
	switch {
	case len(s.VIPs) > 1:
		r.fail(f["vips"], "make a service for each VIP, with backends or ports of its own", "with forward %q, a service has one VIP", s.Forward.String())
	case s.Protocol == lb.ProtocolAny:
		r.fail(f["protocol"], "", "%q has no ports that could be translated", s.Protocol.String())
		return
	}
	if s.SourceNAT {
		return // replies name the flow
	}
	ports := 0
	for _, p := range s.Ports {
		ports += int(p.Last) - int(p.First) + 1
	}
	if ports > maxTranslated && !slices.Equal(s.Ports, []lb.PortRange{lb.AllPorts}) {
		r.fail(f["ports"], `give fewer, or "all"`, "%d ports are more than %d, which NAT can have", ports, maxTranslated)
		return
	}
	servers := s.Backends
	if s.Sorry != nil {
		servers = append(slices.Clone(servers), *s.Sorry)
	}
	for i := range servers {
		if !r.repliesOf(s, &servers[i], at(f["backends"], item)) {
			return
		}
	}
}

// repliesOf notes what the replies of a backend come from, and says whether all of it is new.
func (r *reader) repliesOf(s *Service, b *Backend, v value) bool {
	if r.replies == nil {
		r.replies = make(map[reply]string)
	}
	ranges := s.Ports
	switch {
	case b.Port != 0:
		ranges = []lb.PortRange{{First: b.Port, Last: b.Port}}
	case slices.Equal(s.Ports, []lb.PortRange{lb.AllPorts}):
		ranges = []lb.PortRange{{}}
	}
	for _, ports := range ranges {
		for port := int(ports.First); port <= int(ports.Last); port++ {
			from := reply{b.Address, uint16(port), s.Protocol}
			if other, taken := r.replies[from]; taken && other != s.Name {
				r.fail(v, "give it another port, or another address", "replies of backend %q could be service %q's, too", b.Name, other)
				return false
			}
			if r.replies[from] = s.Name; len(r.replies) > maxReplies {
				r.fail(v, "", "more than %d pairs of backend and port with NAT, those of all services together", maxReplies)
				return false
			}
		}
	}
	return true
}

// onlyAddress takes an address for a backend that has nothing else to say.
func onlyAddress(v value) (map[string]value, bool) {
	if !v.given() || v.node.Kind != yaml.ScalarNode {
		return nil, false
	}
	return map[string]value{"address": v}, true
}

// backendAddress is of another machine: neither nodes nor the cluster itself serve what they send on.
func (r *reader) backendAddress(c *Config, v value) netip.Addr {
	a := r.address(v)
	switch {
	case !a.IsValid():
		return netip.Addr{}
	case a.IsLinkLocalUnicast():
		r.fail(v, "", "%s is of one link only, and nothing says which", a)
	case slices.ContainsFunc(c.VIPs, func(vip VIP) bool { return vip.Address == a }):
		r.fail(v, "give the address that the machine has for itself", "%s is a VIP", a)
	default:
		for _, n := range c.Nodes {
			if slices.Contains(n.Addresses, a) {
				r.fail(v, "", "%s is an address of node %q; nodes serve what they take with forward %q", a, n.Name, lb.ForwardLocal.String())
			}
		}
	}
	return a
}
