package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

// A kindOfCheck says which keys a kind has beside those that all have, and whether its port must be,
// may be or can't be given.
type kindOfCheck struct {
	kind CheckKind
	port portRule
	keys []string
}

type portRule uint8

const (
	portOfService portRule = iota // the service's first when it is not given
	portNamed                     // something else than the service listens there
	portNone
)

func checkKinds() []kindOfCheck {
	request := []string{"method", "path", "host", "headers", "status", "body"}
	return []kindOfCheck{
		{CheckTCP, portOfService, []string{"send", "expect"}},
		{CheckHTTP, portOfService, request},
		{CheckHTTPS, portOfService, append(slices.Clone(request), "tls-verify", "sni")},
		{CheckTLSExpiry, portOfService, []string{"days", "sni"}},
		{CheckDNS, portOfService, []string{"query", "record", "expect"}},
		{CheckICMP, portNone, nil},
		{CheckExec, portOfService, []string{"command"}},
		{CheckAgent, portNamed, []string{"send"}},
		{CheckFile, portNone, []string{"path", "want", "contains"}},
	}
}

// ownKeys are those that some kinds have and others do not, in the order of the reference.
func ownKeys() (keys []string) {
	for _, k := range checkKinds() {
		for _, key := range k.keys {
			if !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

func (r *reader) checks(c *Config, s *Service, v value) {
	items, _ := r.items(v, false)
	if len(items) > maxChecks {
		r.fail(v, "", "%d checks are more than %d", len(items), maxChecks)
		return
	}
	if len(items) > 0 && c.Membership == nil && s.Forward == lb.ForwardLocal && !r.toldStatic {
		r.toldStatic = true
		r.fail(v, "add cluster.membership, or leave the checks out", "the nodes of this file are always up, so that no check can count")
	}
	names := make(map[string]bool)
	for _, item := range items {
		f, ok := r.fields(item, "type", "name", "via", "address", "port", "interval", "timeout", "rise", "fall",
			"fast-interval", "start", "results", "method", "path", "host", "headers", "status", "body",
			"tls-verify", "sni", "send", "expect", "days", "query", "record", "command", "want", "contains")
		if !ok {
			continue
		}
		k, ok := r.checkKind(at(f["type"], item), f)
		if !ok {
			continue
		}
		check := Check{Kind: k.kind}
		r.checkName(&check, f["name"], item, names)
		r.target(&check, k, s, f, item)
		r.via(&check, s, f)
		r.rhythm(&check, f)
		r.attempt(&check, f, item)
		s.Checks = append(s.Checks, check)
	}
}

// checkKind also refuses what belongs to other kinds.
func (r *reader) checkKind(v value, f map[string]value) (kindOfCheck, bool) {
	kinds := checkKinds()
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = k.kind.String()
	}
	if !v.given() {
		r.fail(v, "one of "+strings.Join(words, ", "), "missing")
		return kindOfCheck{}, false
	}
	i := slices.Index(words, r.word(v, "", words...))
	if i < 0 {
		return kindOfCheck{}, false
	}
	for _, key := range ownKeys() {
		if f[key].given() && !slices.Contains(kinds[i].keys, key) {
			r.fail(f[key], "", "a check of type %q has no such key", words[i])
		}
	}
	return kinds[i], true
}

// checkName makes one of the type when there is none: http, http-2.
func (r *reader) checkName(check *Check, v, item value, names map[string]bool) {
	if v.given() {
		check.Name = r.name(v, "-", 40)
	} else {
		check.Name = check.Kind.String()
		for i := 2; names[check.Name]; i++ {
			check.Name = fmt.Sprintf("%s-%d", check.Kind, i)
		}
	}
	if check.Name != "" && names[check.Name] {
		r.fail(at(v, item), "", "another check of the service is called %q", check.Name)
	}
	names[check.Name] = true
}

// target is the service itself, unless the check says otherwise; of a service with backends, it is
// each of them.
func (r *reader) target(check *Check, k kindOfCheck, s *Service, f map[string]value, item value) {
	address, port := f["address"], f["port"]
	switch {
	case s.Forward != lb.ForwardLocal && k.kind == CheckFile:
		r.fail(at(f["type"], item), "", "a file of this machine tells nothing of a backend")
	case s.Forward != lb.ForwardLocal && address.given():
		r.fail(address, "leave it out: each backend is asked at its own address", "the service has backends")
	case s.Forward != lb.ForwardLocal:
	case k.kind == CheckFile && address.given():
		r.fail(address, "", "a check of type %q has no such key", k.kind.String())
	case k.kind == CheckFile:
	case address.given():
		check.Address = r.address(address)
	case len(s.VIPs) > 0:
		check.Address = s.VIPs[0]
	}
	switch {
	case k.port == portNone && port.given():
		r.fail(port, "", "a check of type %q has no such key", k.kind.String())
	case k.port == portNone:
	case port.given():
		check.Port = uint16(r.integer(port, 1, maxPorts, 1))
	case s.Forward == lb.ForwardNAT && k.port == portOfService && len(s.Ports) == 1 && s.Ports[0].First == s.Ports[0].Last:
		// each backend may have its own
	case k.port == portNamed:
		r.fail(at(port, item), "name the port that the agent listens on", "missing")
	case len(s.Ports) > 0 && s.Ports[0] != lb.AllPorts:
		check.Port = s.Ports[0].First
	case len(s.Ports) > 0 && k.kind != CheckExec:
		r.fail(at(port, item), "the service has all ports; name one of them", "missing")
	}
}

// via reads the way to a backend. What is forwarded by its port alone can be asked through the VIP.
func (r *reader) via(check *Check, s *Service, f map[string]value) {
	v := f["via"]
	if s.Forward == lb.ForwardLocal {
		if v.given() {
			r.fail(v, "", "a check of a service with forward %q has no such key", s.Forward.String())
		}
		return
	}
	check.Via = CheckVia(r.word(v, ViaDirect.String(), ViaDirect.String(), ViaVIP.String()))
	if check.Via != ViaVIP {
		return
	}
	kinds := []CheckKind{CheckTCP, CheckHTTP, CheckHTTPS, CheckTLSExpiry, CheckDNS}
	served := slices.ContainsFunc(s.Ports, func(p lb.PortRange) bool { return p.First <= check.Port && check.Port <= p.Last })
	switch {
	case s.Forward == lb.ForwardNAT:
		r.fail(v, "", "with forward %q, a check does not go through the VIP", s.Forward.String())
	case !slices.Contains(kinds, check.Kind):
		r.fail(v, "", "a check of type %q does not go through the VIP", check.Kind.String())
	case check.Port != 0 && s.Ports != nil && !served:
		r.fail(f["port"], "", "%d is no port of the service; through the VIP, nothing else is sent on", check.Port)
	}
}

// rhythm reads how often a check is tried and what its results change.
func (r *reader) rhythm(check *Check, f map[string]value) {
	before := len(r.errs)
	check.Interval = r.duration(f["interval"], minInterval, time.Hour, defaultInterval)
	shortest, name := check.Interval, "interval"
	if f["fast-interval"].given() {
		check.FastInterval = r.duration(f["fast-interval"], minInterval, time.Hour, check.Interval)
		shortest, name = min(shortest, check.FastInterval), "fast-interval"
	}
	check.Timeout = r.duration(f["timeout"], 10*time.Millisecond, time.Hour, min(defaultTimeout, shortest))
	check.Rise = r.integer(f["rise"], 1, 20, defaultRise)
	check.Fall = r.integer(f["fall"], 1, 20, defaultFall)
	check.Start = CheckStart(r.word(f["start"], string(StartUp), string(StartUp), string(StartDown)))
	check.Results = r.integer(f["results"], 1, 1000, defaultResults)
	switch {
	case len(r.errs) > before:
	case check.FastInterval > check.Interval:
		r.fail(f["fast-interval"], "", "%s is longer than the interval, %s", durationText(check.FastInterval), durationText(check.Interval))
	case check.Timeout > shortest:
		r.fail(f["timeout"], "two probes of one check never overlap", "%s is longer than the %s, %s", durationText(check.Timeout), name, durationText(shortest))
	}
}

// attempt reads what belongs to one kind.
func (r *reader) attempt(check *Check, f map[string]value, item value) {
	switch check.Kind {
	case CheckTCP:
		check.TCP.Send, _ = r.optional(f["send"])
		check.TCP.Expect, _ = r.optional(f["expect"])
	case CheckHTTP, CheckHTTPS:
		r.request(&check.HTTP, f)
		if check.Kind == CheckHTTPS {
			check.TLS = TLSCheck{r.boolean(f["tls-verify"], true), r.formed(f["sni"], hostText, "the name of a host")}
		}
	case CheckTLSExpiry:
		check.TLS = TLSCheck{true, r.formed(f["sni"], hostText, "the name of a host")}
		check.Days = r.integer(f["days"], 0, 365, defaultDays)
	case CheckDNS:
		r.question(&check.DNS, f, item)
	case CheckICMP:
	case CheckExec:
		check.Command = r.command(at(f["command"], item))
	case CheckAgent:
		check.AgentSend, _ = r.optional(f["send"])
	case CheckFile:
		r.fileCheck(&check.File, f, item)
	}
}

func (r *reader) request(h *HTTPCheck, f map[string]value) {
	h.Method = r.word(f["method"], "GET", "GET", "HEAD", "OPTIONS", "POST", "PUT")
	h.Path = "/"
	if s := r.formed(f["path"], pathText, "a path that starts with / and has no space"); s != "" {
		h.Path = s
	}
	h.Host = r.formed(f["host"], hostPortText, "the name of a host")
	h.Headers = r.headers(f["headers"])
	h.Status = r.statuses(f["status"])
	h.Body = r.pattern(f["body"])
}

func (r *reader) question(d *DNSCheck, f map[string]value, item value) {
	if query := at(f["query"], item); !query.given() {
		r.fail(query, "", "missing")
	} else {
		d.Query = r.formed(query, queryText, "a domain name")
	}
	d.Record = r.word(f["record"], "A", "A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT")
	d.RCode = "NOERROR"
	answer, _ := r.optional(f["expect"])
	if slices.Contains([]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"}, answer) {
		d.RCode, answer = answer, ""
	}
	d.Answer = answer
}

func (r *reader) fileCheck(file *FileCheck, f map[string]value, item value) {
	if path := at(f["path"], item); !path.given() {
		r.fail(path, "", "missing")
	} else {
		file.Path = r.absolute(path)
	}
	file.Absent = r.word(f["want"], "present", "present", "absent") == "absent"
	file.Contains, _ = r.optional(f["contains"])
	if file.Absent && f["contains"].given() {
		r.fail(f["contains"], "", "a file that must be absent has no content")
	}
}

func (r *reader) headers(v value) map[string]string {
	if !v.given() {
		return nil
	}
	pairs, ok := r.pairs(v)
	if !ok {
		return nil
	}
	headers := make(map[string]string)
	for _, p := range pairs {
		s, ok := r.argument(p.value)
		canonical := strings.ToLower(p.key)
		switch {
		case !ok:
		case !tokenText.MatchString(p.key):
			r.fail(p.value, "", "%q is not the name of a header", p.key)
		case canonical == "host" || canonical == "content-length" || canonical == "transfer-encoding":
			r.fail(p.value, "", "%q is not for a check to set; the host has a key of its own", p.key)
		case slices.ContainsFunc(slices.Collect(maps.Keys(headers)), func(k string) bool { return strings.EqualFold(k, p.key) }):
			r.fail(p.value, "", "header %q is given twice", p.key)
		case strings.ContainsAny(s, "\r\n\x00"):
			r.fail(p.value, "", "header %q has a line break", p.key)
		default:
			headers[p.key] = s
		}
	}
	return headers
}

var statusText = regexp.MustCompile(`^([1-5][0-9][0-9])(?:-([1-5][0-9][0-9]))?$`)

// statuses reads 204, 200-299 or a list of those.
func (r *reader) statuses(v value) []StatusRange {
	items, ok := r.items(v, true)
	switch {
	case ok && v.given() && len(items) == 0:
		r.fail(v, "", "names no status")
	case len(items) > maxArguments:
		r.fail(v, "", "%d statuses are more than %d", len(items), maxArguments)
		return nil
	case !v.given():
		return []StatusRange{{200, 299}}
	}
	var list []StatusRange
	for _, item := range items {
		s, ok := r.required(item)
		if !ok {
			continue
		}
		m := statusText.FindStringSubmatch(s)
		if m == nil || m[2] != "" && m[2] < m[1] {
			r.fail(item, "", "%q is not a status or a range of them, in 100..599", s)
			continue
		}
		var status StatusRange
		status.First, _ = strconv.Atoi(m[1]) // three digits
		status.Last = status.First
		if m[2] != "" {
			status.Last, _ = strconv.Atoi(m[2])
		}
		list = append(list, status)
	}
	slices.SortFunc(list, func(a, b StatusRange) int { return a.First - b.First })
	return list
}

// pattern is short, and there are few: repetitions make some of them large.
func (r *reader) pattern(v value) *regexp.Regexp {
	s, ok := r.optional(v)
	if !ok || r.full() {
		return nil
	}
	if known := r.patterns[s]; known != nil {
		return known
	}
	switch {
	case len(s) > maxPattern:
		r.fail(v, "", "an expression of %d bytes is longer than %d", len(s), maxPattern)
		return nil
	case len(r.patterns) == maxPatterns:
		r.fail(v, "", "more than %d different expressions in one file", maxPatterns)
		return nil
	}
	expression, err := regexp.Compile(s)
	if err != nil {
		r.fail(v, "", "not a regular expression: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return nil
	}
	if r.patterns == nil {
		r.patterns = make(map[string]*regexp.Regexp)
	}
	r.patterns[s] = expression
	return expression
}

var (
	hostText     = regexp.MustCompile(`^[0-9A-Za-z]([0-9A-Za-z._-]{0,251}[0-9A-Za-z])?$`)
	hostPortText = regexp.MustCompile(`^([0-9A-Za-z][0-9A-Za-z._-]{0,252}|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)
	queryText    = regexp.MustCompile(`^[0-9A-Za-z_]([0-9A-Za-z._-]{0,252}[0-9A-Za-z.])?$`)
	pathText     = regexp.MustCompile(`^/[!-~]*$`)
	tokenText    = regexp.MustCompile("^[0-9A-Za-z!#$%&'*+.^_`|~-]+$")
)

// formed is text of a form; empty when there is none.
func (r *reader) formed(v value, form *regexp.Regexp, what string) string {
	s, ok := r.text(v)
	if !ok {
		return ""
	}
	if len(s) > maxText || !form.MatchString(s) {
		r.fail(v, "", "%q is not %s", s, what)
		return ""
	}
	return s
}
