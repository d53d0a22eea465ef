package probe

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// dnsServer answers on one port over UDP and TCP.
func dnsServer(t *testing.T) netip.AddrPort {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	streams, err := net.Listen("tcp", packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{}, 2)
	note := func() { started <- struct{}{} }
	for _, s := range []*dns.Server{
		{PacketConn: packets, Handler: zone(t, true), NotifyStartedFunc: note},
		{Listener: streams, Handler: zone(t, false), NotifyStartedFunc: note},
	} {
		ended := make(chan error, 1)
		go func() { ended <- s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := s.Shutdown(); err != nil {
				t.Error(err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	return addrOf(packets.LocalAddr())
}

func zone(t *testing.T, udp bool) dns.HandlerFunc {
	records := map[string][]string{
		"www.example.com. A":     {"www.example.com. 60 IN A 192.0.2.7", "www.example.com. 60 IN A 192.0.2.8"},
		"www.example.com. AAAA":  {"www.example.com. 60 IN AAAA 2001:db8::7"},
		"alias.example.com. A":   {"alias.example.com. 60 IN CNAME www.example.com.", "www.example.com. 60 IN A 192.0.2.7"},
		"dead.example.com. A":    {"dead.example.com. 60 IN CNAME gone.example.com."},
		"text.example.com. TXT":  {`text.example.com. 60 IN TXT "all is well"`},
		"mail.example.com. MX":   {"mail.example.com. 60 IN MX 10 mx.example.com."},
		"large.example.com. TXT": nil,
	}
	for i := range 20 {
		records["large.example.com. TXT"] = append(records["large.example.com. TXT"],
			fmt.Sprintf(`large.example.com. 60 IN TXT "record %02d of those that take more than a packet"`, i))
	}
	return func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg).SetReply(q)
		question := q.Question[0]
		switch question.Name {
		case "none.example.com.":
			answer.Rcode = dns.RcodeNameError
		case "refused.example.com.":
			answer.Rcode = dns.RcodeRefused
		case "silent.example.com.":
			return
		}
		for _, text := range records[question.Name+" "+dns.TypeToString[question.Qtype]] {
			record, err := dns.NewRR(text)
			if err != nil {
				t.Error(err)
				return
			}
			answer.Answer = append(answer.Answer, record)
		}
		if udp {
			answer.Truncate(dns.MinMsgSize)
		}
		_ = w.WriteMsg(answer)
	}
}

func TestDNS(t *testing.T) {
	target := dnsServer(t)
	for _, c := range []struct {
		spec   DNSSpec
		ok     bool
		detail string
	}{
		{DNSSpec{Name: "www.example.com"}, true, "192.0.2.7, 192.0.2.8"},
		{DNSSpec{Name: "www.example.com.", Type: "a", Answer: "192.0.2.8"}, true, "192.0.2.8"},
		{DNSSpec{Name: "www.example.com", Answer: "192.0.2.9"}, false, "got 192.0.2.7, 192.0.2.8, want 192.0.2.9"},
		{DNSSpec{Name: "www.example.com", Type: "AAAA", Answer: "2001:DB8::7"}, true, "2001:db8::7"},
		{DNSSpec{Name: "alias.example.com", Answer: "192.0.2.7"}, true, "192.0.2.7"},
		{DNSSpec{Name: "dead.example.com"}, false, "NOERROR, no A record"},
		{DNSSpec{Name: "text.example.com", Type: "TXT", Answer: "all is well"}, true, `"all is well"`},
		{DNSSpec{Name: "mail.example.com", Type: "MX", Answer: "10 mx.example.com"}, true, "10 mx.example.com."},
		{DNSSpec{Name: "large.example.com", Type: "TXT", Answer: "record 19 of those that take more than a packet"}, true,
			`"record 19 of those that take more than a packet"`},
		{DNSSpec{Name: "none.example.com"}, false, "NXDOMAIN, want NOERROR"},
		{DNSSpec{Name: "none.example.com", RCode: "nxdomain"}, true, "NXDOMAIN"},
		{DNSSpec{Name: "refused.example.com"}, false, "REFUSED, want NOERROR"},
		{DNSSpec{Name: "www.example.com", RCode: "REFUSED"}, false, "NOERROR, want REFUSED"},
		{DNSSpec{Name: "www.example.com", Type: "AX"}, false, `record type "AX" is unknown`},
	} {
		expectDetail(t, target, Spec{Kind: DNS, DNS: c.spec}, c.ok, c.detail)
	}
	expectDetail(t, closed(t), Spec{Kind: DNS, DNS: DNSSpec{Name: "www.example.com"}}, false, "udp: connection refused")
	expectTimeout(t, target, Spec{Kind: DNS, DNS: DNSSpec{Name: "silent.example.com"}}, "udp: timeout")
}
