package netlab_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// reaches says whether a TCP connection from one host gets to another, by number, within some time.
func reaches(t *testing.T, hosts []*netlab.Host, from, to int, within time.Duration) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	c, err := hosts[from].Dial(ctx, "tcp", fmt.Sprintf("192.0.2.%d:80", to+1))
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func TestACutKeepsAHostFromAllButSome(t *testing.T) {
	lab := nettest.New(t)
	sw, err := lab.Switch("sw", netlab.SwitchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var hosts []*netlab.Host
	for i := range 3 {
		h := nettest.Host(t, lab, fmt.Sprintf("n%d", i+1))
		hosts = append(hosts, h)
		for _, err := range []error{
			lab.Connect(h, "eth0", sw, netlab.LinkOptions{MAC: net.HardwareAddr{0x82, 0, 0, 0, 0x80, byte(i + 1)}, SwitchXDP: true}),
			h.Addr("eth0", netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/24", i+1))),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		l, err := h.Listen(t.Context(), "tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	first, err := hosts[0].MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string, want ...[2]int) {
		t.Helper()
		for from := range hosts {
			for to := range hosts {
				if from == to {
					continue
				}
				wanted := false
				for _, pair := range want {
					wanted = wanted || pair == [2]int{from, to} || pair == [2]int{to, from}
				}
				within := 10 * time.Second // on a busy machine
				if !wanted {
					within = 300 * time.Millisecond
				}
				if got := reaches(t, hosts, from, to, within); got != wanted {
					t.Errorf("%s: n%d reaches n%d: %t, want %t", when, from+1, to+1, got, wanted)
				}
			}
		}
	}
	all := [][2]int{{0, 1}, {0, 2}, {1, 2}}
	check("at first", all...) // and everybody knows everybody's MAC
	for _, step := range []struct {
		when string
		do   func() error
		want [][2]int
	}{
		{"n3 reaches only n1", func() error { return sw.Cut(hosts[2], "eth0", first) }, [][2]int{{0, 1}, {0, 2}}},
		{"n3 reaches nobody", func() error { return sw.Cut(hosts[2], "eth0") }, [][2]int{{0, 1}}},
		{"healed", func() error { return sw.Heal(hosts[2], "eth0") }, all},
		{"unplugged", func() error { return sw.Unplug(hosts[2], "eth0") }, [][2]int{{0, 1}}},
		{"plugged", func() error { return sw.Plug(hosts[2], "eth0") }, all},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.when, err)
		}
		check(step.when, step.want...)
	}
}
