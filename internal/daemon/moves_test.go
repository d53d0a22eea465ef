package daemon

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/probe"
)

func TestADiffSaysHowManySlotsMove(t *testing.T) {
	base := func() *config.Config {
		s := config.Service{Name: "web", Forward: lb.ForwardDR, Hash: lb.HashSourcePort, FlowIdle: time.Hour}
		for i := range 10 {
			addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(20 + i)})
			s.Backends = append(s.Backends, config.Backend{Name: addr.String(), Address: addr, Weight: 100})
		}
		return &config.Config{Services: []config.Service{s, {Name: "own"}}}
	}
	log := slog.New(slog.DiscardHandler)
	p := &planner{cfg: base(), started: time.Now(), forwarder: newForwarder(log), checks: probe.NewRunner(probe.Options{Log: log})}
	const tenth = lb.Slots / 10
	for _, c := range []struct {
		what   string
		change func(c *config.Config, s *config.Service)
		from   int // slots that move at least
		to     int // and at most
	}{
		{"nothing", func(*config.Config, *config.Service) {}, 0, 0},
		{"another order", func(_ *config.Config, s *config.Service) { slices.Reverse(s.Backends) }, 0, 0},
		{"how long flows live", func(_ *config.Config, s *config.Service) { s.FlowIdle = time.Minute }, 0, 0},
		{"one of ten less", func(_ *config.Config, s *config.Service) { s.Backends = s.Backends[1:] }, tenth, tenth * 11 / 10},
		{"one of ten of weight 0", func(_ *config.Config, s *config.Service) { s.Backends[3].Weight = 0 }, tenth, tenth * 11 / 10},
		{"an eleventh", func(_ *config.Config, s *config.Service) {
			s.Backends = append(s.Backends, config.Backend{Name: "new", Address: netip.MustParseAddr("192.0.2.99"), Weight: 100})
		}, lb.Slots / 11, lb.Slots / 10},
		{"another server behind a name", func(_ *config.Config, s *config.Service) {
			s.Backends[0].Address = netip.MustParseAddr("192.0.2.99")
		}, tenth - 1, tenth + 1},
		{"the hash", func(_ *config.Config, s *config.Service) { s.Hash = lb.HashSource }, lb.Slots, lb.Slots},
		{"the seed", func(c *config.Config, _ *config.Service) { c.Seed[0] = 1 }, lb.Slots, lb.Slots},
		{"forward", func(_ *config.Config, s *config.Service) { s.Forward, s.Backends = lb.ForwardLocal, nil }, 0, 0},
	} {
		fresh := base()
		c.change(fresh, &fresh.Services[0])
		got := p.moves(fresh)
		slots := 0
		if len(got) > 0 {
			slots = got[0].Slots
			if diff := cmp.Diff([]control.SlotMoves{{Service: "web", Slots: slots, Share: float64(slots) / lb.Slots}}, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.what, diff)
			}
		}
		if slots < c.from || slots > c.to {
			t.Errorf("%s: %d slots move, want %d to %d", c.what, slots, c.from, c.to)
		}
	}
}
