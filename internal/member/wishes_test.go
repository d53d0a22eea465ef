package member

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/ownership"
	"github.com/lbctl/lbctl/internal/store"
)

func TestWhatANodeWantsIsWhatPeopleAndChecksSay(t *testing.T) {
	up := map[string]health.State{"http": health.Up}
	down := map[string]health.State{"http": health.Down, "tcp": health.Up}
	agent := func(line string) map[string]health.Agent {
		return map[string]health.Agent{"agent": health.Agent{}.Apply(health.ParseReply(line))}
	}
	for _, c := range []struct {
		name  string
		admin store.NodeAdmin
		web   health.Service
		want  ownership.Weight
		sick  []string
	}{
		{"all is well", store.NodeAdmin{}, health.Service{Checks: up}, ownership.Weight{Weight: 10, Healthy: true, MinNodes: 2}, nil},
		{"nothing is checked", store.NodeAdmin{}, health.Service{}, ownership.Weight{Weight: 10, Healthy: true, MinNodes: 2}, nil},
		{
			"a check fails", store.NodeAdmin{}, health.Service{Checks: down},
			ownership.Weight{Weight: 10, MinNodes: 2}, []string{"web: check http is down"},
		},
		{"drained by hand", store.NodeAdmin{Drain: true}, health.Service{Checks: up}, ownership.Weight{Healthy: true, MinNodes: 2}, nil},
		{"removed", store.NodeAdmin{Removed: true}, health.Service{Checks: up}, ownership.Weight{Healthy: true, MinNodes: 2}, nil},
		{
			"drained while a check fails", store.NodeAdmin{Drain: true, KillAt: time.Now()}, health.Service{Checks: down},
			ownership.Weight{MinNodes: 2}, []string{"web: check http is down"},
		},
		{"another weight by hand", store.NodeAdmin{Weight: new(3)}, health.Service{}, ownership.Weight{Weight: 3, Healthy: true, MinNodes: 2}, nil},
		{"no weight by hand", store.NodeAdmin{Weight: new(0)}, health.Service{}, ownership.Weight{Healthy: true, MinNodes: 2}, nil},
		{"too much by hand", store.NodeAdmin{Weight: new(lb.MaxWeight + 1)}, health.Service{}, ownership.Weight{Weight: lb.MaxWeight, Healthy: true, MinNodes: 2}, nil},
		{
			"drained, with a weight by hand", store.NodeAdmin{Drain: true, Weight: new(3)}, health.Service{},
			ownership.Weight{Healthy: true, MinNodes: 2}, nil,
		},
		{"an agent wants half", store.NodeAdmin{}, health.Service{Agents: agent("50%")}, ownership.Weight{Weight: 5, Healthy: true, MinNodes: 2}, nil},
		{"an agent drains", store.NodeAdmin{}, health.Service{Agents: agent("drain")}, ownership.Weight{Healthy: true, MinNodes: 2}, nil},
		{"half of the weight by hand", store.NodeAdmin{Weight: new(4)}, health.Service{Agents: agent("50%")}, ownership.Weight{Weight: 2, Healthy: true, MinNodes: 2}, nil},
	} {
		w := Wishes{
			Weight: 10, MinNodes: map[string]int{"web": 2},
			Domains: map[string]health.Service{"": {}, "web": c.web},
		}
		got, sick := w.weights(c.admin, nil)
		// Whatever the checks of a service say, the node itself is well.
		self := c.want
		self.Healthy, self.MinNodes = true, 1
		if len(c.web.Agents) > 0 {
			self.Weight = 10
			if c.admin.Weight != nil {
				self.Weight = *c.admin.Weight
			}
		}
		if diff := cmp.Diff(map[string]ownership.Weight{"": self, "web": c.want}, got); diff != "" {
			t.Errorf("%s: weights (-want +got):\n%s", c.name, diff)
		}
		if diff := cmp.Diff(c.sick, sick); diff != "" {
			t.Errorf("%s: sick (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestADecisionAboutAVIPGoesWithItsDomain(t *testing.T) {
	vip, other := netip.MustParseAddr("192.0.2.80"), netip.MustParseAddr("192.0.2.81")
	w := Wishes{
		Weight: 10, Domains: map[string]health.Service{"": {}, "vip 192.0.2.80": {}, "vip 192.0.2.81": {}},
		Wholes: map[string]Whole{"vip 192.0.2.80": {VIP: vip, Priority: 7, Stay: true}, "vip 192.0.2.81": {VIP: other}},
	}
	got, _ := w.weights(store.NodeAdmin{}, map[netip.Addr]store.VIPMove{vip: {Node: "n2", Stamp: 99}})
	want := map[string]ownership.Weight{
		"": {Weight: 10, Healthy: true, MinNodes: 1},
		"vip 192.0.2.80": {
			Weight: 10, Healthy: true, MinNodes: 1,
			Whole: ownership.Whole{Is: true, Priority: 7, Stay: true, Choice: ownership.Choice{Number: 99, Node: "n2"}},
		},
		"vip 192.0.2.81": {Weight: 10, Healthy: true, MinNodes: 1, Whole: ownership.Whole{Is: true}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
