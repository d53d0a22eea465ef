package probe

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/health"
)

// nowhere is what the checks of this file name, and nobody can connect to.
var nowhere = netip.MustParseAddrPort("192.0.2.80:80")

// report runs one check until its first probe is told.
func report(t *testing.T, check Check, dial func(context.Context, Check, string) (net.Conn, error)) Report {
	t.Helper()
	told := make(chan Report, 16)
	r := NewRunner(Options{Node: "n1", Log: slog.New(slog.DiscardHandler), Report: func(r Report) { told <- r }, Dial: dial})
	check.Rule = health.Rule{Interval: time.Hour, FastInterval: time.Millisecond, Timeout: 5 * time.Second, Rise: 1, Fall: 1}
	r.Set([]Check{check})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	select {
	case first := <-told:
		return first
	case <-time.After(5 * time.Second):
		t.Fatal("no report")
		return Report{}
	}
}

func TestADialledCheckConnectsAsItIsTold(t *testing.T) {
	page := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for _, test := range []struct {
		spec    Spec
		at      netip.AddrPort
		network string
		detail  string
	}{
		{Spec{Kind: TCP}, says(t, "", false), "tcp", "connected"},
		{Spec{Kind: HTTP}, says(t, page, false), "tcp", "status 200"},
		{Spec{Kind: Agent}, says(t, "up\n", false), "tcp", "up"},
		{Spec{Kind: DNS, DNS: DNSSpec{Name: "www.example.com"}}, dnsServer(t), "udp", "192.0.2.7, 192.0.2.8"},
	} {
		var asked []string
		check := Check{Service: "web", Backend: "b1", Name: "c", Target: nowhere, Dialled: true, Spec: test.spec}
		got := report(t, check, func(ctx context.Context, c Check, network string) (net.Conn, error) {
			asked = append(asked, c.Service+" "+c.Backend+" "+c.Target.String()+" "+network)
			return new(net.Dialer).DialContext(ctx, network, test.at.String())
		})
		if !got.Result.OK || got.Result.Detail != test.detail {
			t.Errorf("%s: ok %v, %q, want %q", test.spec.Kind, got.Result.OK, got.Result.Detail, test.detail)
		}
		if diff := cmp.Diff([]string{"web b1 192.0.2.80:80 " + test.network}, asked); diff != "" {
			t.Errorf("%s: asked to connect (-want +got):\n%s", test.spec.Kind, diff)
		}
	}
}

func TestADialledCheckFailsAsDiallingDoes(t *testing.T) {
	check := Check{Service: "web", Backend: "b1", Name: "c", Target: nowhere, Dialled: true}
	got := report(t, check, func(context.Context, Check, string) (net.Conn, error) { return nil, errors.New("no way to it") })
	if got.Result.OK || got.Result.Detail != "connect: no way to it" {
		t.Errorf("ok %v, %q", got.Result.OK, got.Result.Detail)
	}
}
