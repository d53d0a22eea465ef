package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/lbctl/lbctl/internal/lb"
)

// A setting is a key of the file and its value as one line of YAML. Lists of them are what YAML
// prints and Diff compares.
type setting struct{ key, text string }

// given leaves out what says nothing.
func given(list []setting) []setting {
	return slices.DeleteFunc(list, func(s setting) bool { return s.text == "" || s.text == `""` || s.text == "[]" || s.text == "{}" })
}

func (m *Membership) settings() []setting {
	insecure := ""
	if m.Insecure {
		insecure = "true"
	}
	return given([]setting{
		{"port", strconv.Itoa(int(m.Port))},
		{"key-file", quoted(m.KeyFile)},
		{"insecure", insecure},
		{"preset", m.Preset.String()},
		{"partition", m.Partition.String()},
		{"witness", inline(m.Witness, netip.Addr.String)},
		{"heartbeat", durationText(m.Heartbeat)},
		{"dead-after", durationText(m.DeadAfter)},
		{"lease", durationText(m.Lease)},
		{"absence", durationText(m.Absence)},
	})
}

func (h *Hook) settings() []setting {
	return []setting{
		{"command", inline(h.Command, verbatim)},
		{"on", inline(h.On, HookEvent.String)},
		{"timeout", durationText(h.Timeout)},
		{"user", quoted(h.User)},
	}
}

func (k *Check) settings() []setting {
	list := []setting{{"type", k.Kind.String()}, {"name", quoted(k.Name)}}
	if k.Via != "" {
		list = append(list, setting{"via", k.Via.String()})
	}
	if k.Address.IsValid() {
		list = append(list, setting{"address", quoted(k.Address.String())})
	}
	if k.Port != 0 {
		list = append(list, setting{"port", strconv.Itoa(int(k.Port))})
	}
	list = append(list, setting{"interval", durationText(k.Interval)}, setting{"timeout", durationText(k.Timeout)},
		setting{"rise", strconv.Itoa(k.Rise)}, setting{"fall", strconv.Itoa(k.Fall)})
	if k.FastInterval != 0 {
		list = append(list, setting{"fast-interval", durationText(k.FastInterval)})
	}
	list = append(list, setting{"start", k.Start.String()}, setting{"results", strconv.Itoa(k.Results)})
	return append(list, given(k.ofKind())...)
}

func (k *Check) ofKind() []setting {
	switch k.Kind {
	case CheckTCP:
		return []setting{{"send", quoted(k.TCP.Send)}, {"expect", quoted(k.TCP.Expect)}}
	case CheckHTTP:
		return k.HTTP.settings()
	case CheckHTTPS:
		return append(k.HTTP.settings(), setting{"tls-verify", strconv.FormatBool(k.TLS.Verify)}, setting{"sni", quoted(k.TLS.SNI)})
	case CheckTLSExpiry:
		return []setting{{"days", strconv.Itoa(k.Days)}, {"sni", quoted(k.TLS.SNI)}}
	case CheckDNS:
		return k.DNS.settings()
	case CheckICMP:
	case CheckExec:
		return []setting{{"command", inline(k.Command, verbatim)}}
	case CheckAgent:
		return []setting{{"send", quoted(k.AgentSend)}}
	case CheckFile:
		return k.File.settings()
	}
	return nil
}

func (h *HTTPCheck) settings() []setting {
	headers := make([]string, 0, len(h.Headers))
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		headers = append(headers, quoted(name)+": "+quoted(h.Headers[name]))
	}
	body := ""
	if h.Body != nil {
		body = h.Body.String()
	}
	return []setting{
		{"method", h.Method},
		{"path", quoted(h.Path)},
		{"host", quoted(h.Host)},
		{"headers", "{" + strings.Join(headers, ", ") + "}"},
		{"status", inline(h.Status, StatusRange.String)},
		{"body", quoted(body)},
	}
}

func (d *DNSCheck) settings() []setting {
	expect := d.Answer
	if d.RCode != "NOERROR" {
		expect = d.RCode
	}
	return []setting{{"query", quoted(d.Query)}, {"record", d.Record}, {"expect", quoted(expect)}}
}

func (f *FileCheck) settings() []setting {
	want := "present"
	if f.Absent {
		want = "absent"
	}
	return []setting{{"path", quoted(f.Path)}, {"want", want}, {"contains", quoted(f.Contains)}}
}

// String is what the file says: 204 or 200-299.
func (s StatusRange) String() string {
	if s.First == s.Last {
		return strconv.Itoa(s.First)
	}
	return fmt.Sprintf("%d-%d", s.First, s.Last)
}

// ofFailover are those of VIPs that one node has.
func (v *VIP) ofFailover() []setting {
	if v.Announce != lb.AnnounceFailover {
		return nil
	}
	return given([]setting{{"prefer", inline(v.Prefer, verbatim)}, {"preempt", strconv.FormatBool(v.Preempt)}})
}

// ofHealth are the settings that count in clusters with membership only.
func (s *Service) ofHealth() []setting {
	list := []setting{{"min-nodes", strconv.Itoa(s.MinNodes)}, {"udp-idle", durationText(s.UDPIdle)}}
	if s.Forward != lb.ForwardLocal {
		return list[1:]
	}
	return list
}

// ofForwarding are those of services with backends, in a cluster with membership or without.
func (s *Service) ofForwarding(member bool) []setting {
	list := []setting{{"scheduler", s.Scheduler.String()}, {"flow-idle", durationText(s.FlowIdle)}}
	if s.Affinity != 0 {
		list = append(list, setting{"affinity", durationText(s.Affinity)})
	}
	if s.Overflow != lb.OverflowNext {
		list = append(list, setting{"overflow", s.Overflow.String()})
	}
	if s.Forward == lb.ForwardTunnel {
		list = append(list, setting{"encap", s.Encap.String()})
	}
	if s.SourceNAT {
		list = append(list, setting{"source-nat", "true"})
	}
	if s.MSS != 0 {
		list = append(list, setting{"mss", strconv.Itoa(int(s.MSS))})
	}
	list = append(list, setting{"min-backends", strconv.Itoa(s.MinBackends)})
	if member {
		list = append(list, setting{"agree", strconv.Itoa(s.Agree)})
	}
	if s.Watches() {
		list = append(list, s.Fails.settings()...)
	}
	return list
}

func (f Fails) settings() []setting {
	return []setting{{"max-fails", strconv.Itoa(f.Max)}, {"fail-timeout", durationText(f.Timeout)}}
}

// naming is the name of a backend unless it is the default: with colons, a file cannot give it.
func (b *Backend) naming() []setting {
	if b.Name == b.defaultName() {
		return nil
	}
	return []setting{{"name", quoted(b.Name)}}
}

// place is where a backend is.
func (b *Backend) place() []setting {
	list := []setting{{"address", quoted(b.Address.String())}}
	if b.Port != 0 {
		list = append(list, setting{"port", strconv.Itoa(int(b.Port))})
	}
	return list
}

func (b *Backend) settings(watched bool) []setting {
	list := append(b.place(),
		setting{"weight", strconv.Itoa(b.Weight)}, setting{"backup", strconv.FormatBool(b.Backup)},
		setting{"down", strconv.FormatBool(b.Down)}, setting{"slow-start", durationText(b.SlowStart)})
	if b.MaxConn != 0 {
		list = append(list, setting{"maxconn", strconv.Itoa(b.MaxConn)})
	}
	if watched {
		list = append(list, b.Fails.settings()...)
	}
	return list
}

// usual says that ofHealth has nothing that the file must have said.
func (s *Service) usual() bool { return s.MinNodes == 1 && s.UDPIdle == defaultUDPIdle }

func verbatim(s string) string { return s }

func inline[T any](list []T, text func(T) string) string {
	parts := make([]string, len(list))
	for i, item := range list {
		parts[i] = quoted(text(item))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// block prints settings below each other; the first may stand behind a dash.
func block(b *strings.Builder, first, indent string, list []setting) {
	for i, s := range list {
		if i == 0 {
			fmt.Fprintf(b, "%s%s: %s\n", first, s.key, s.text)
			continue
		}
		fmt.Fprintf(b, "%s%s: %s\n", indent, s.key, s.text)
	}
}

func leavesOf(m map[string]string, path string, list []setting) {
	for _, s := range list {
		m[path+s.key] = s.text
	}
}
