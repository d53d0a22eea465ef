package probe

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/lbctl/lbctl/internal/health"
)

func tryDNS(ctx context.Context, target netip.AddrPort, spec *Spec) (health.Result, error) {
	want := &spec.DNS
	kind, ok := dns.StringToType[strings.ToUpper(cmp.Or(want.Type, "A"))]
	if !ok {
		return failed("record type %q is unknown", want.Type)
	}
	question := new(dns.Msg).SetQuestion(dns.Fqdn(want.Name), kind)
	answer, err := ask(ctx, "udp", target, spec, question)
	if err == nil && answer.Truncated {
		answer, err = ask(ctx, "tcp", target, spec, question)
	}
	if err != nil {
		return health.Result{}, err
	}
	rcode := strings.ToUpper(cmp.Or(want.RCode, "NOERROR"))
	if got := dns.RcodeToString[answer.Rcode]; got != rcode {
		return failed("%s, want %s", cmp.Or(got, fmt.Sprintf("rcode %d", answer.Rcode)), rcode)
	}
	return records(answer, kind, want.Answer, rcode)
}

func ask(ctx context.Context, network string, target netip.AddrPort, spec *Spec, question *dns.Msg) (*dns.Msg, error) {
	client := dns.Client{Net: network}
	if deadline, ok := ctx.Deadline(); ok {
		client.Timeout = max(1, time.Until(deadline)) // 2 s otherwise, whatever ctx says
	}
	conn, err := spec.open(ctx, network, target)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", plain(err))
	}
	defer conn.Close()
	defer bind(ctx, conn)()
	answer, _, err := client.ExchangeWithConnContext(ctx, question, &dns.Conn{Conn: conn})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", network, plain(err))
	}
	return answer, nil
}

// records looks for one of the type that was asked for; on the way to it may be CNAMEs.
func records(answer *dns.Msg, kind uint16, want, rcode string) (health.Result, error) {
	var data []string
	for _, record := range answer.Answer {
		if record.Header().Rrtype == kind || kind == dns.TypeANY {
			data = append(data, strings.TrimPrefix(record.String(), record.Header().String()))
		}
	}
	switch {
	case want == "" && rcode != "NOERROR":
		return found("%s", rcode)
	case len(data) == 0:
		return failed("%s, no %s record", rcode, dns.TypeToString[kind])
	case want == "":
		return found("%s", strings.Join(data, ", "))
	}
	for _, d := range data {
		if strings.EqualFold(strings.Trim(d, `."`), strings.Trim(want, `."`)) {
			return found("%s", d)
		}
	}
	return failed("got %s, want %s", strings.Join(data, ", "), want)
}
