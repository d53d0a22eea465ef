package health

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/lb"
)

func TestPeopleChecksAndAgentsAreIndependent(t *testing.T) {
	says := func(line string) map[string]Agent { return map[string]Agent{"load": Agent{}.Apply(ParseReply(line))} }
	up := map[string]State{"http": Up, "tls": Up}
	for _, c := range []struct {
		name    string
		service Service
		want    Verdict
	}{
		{"nothing is known, nothing is wrong", Service{Weight: 100}, Verdict{Weight: 100, Healthy: true}},
		{"all checks are up", Service{Weight: 100, Checks: up}, Verdict{Weight: 100, Healthy: true}},
		{"one check is down", Service{Weight: 100, Checks: map[string]State{"http": Up, "tls": Down}},
			Verdict{Weight: 100, Reason: "check tls is down"}},
		{"one check is unknown", Service{Weight: 100, Checks: map[string]State{"http": Unknown, "tls": Down}},
			Verdict{Weight: 100, Reason: "check http is unknown"}},
		{"drained by hand", Service{Weight: 100, Admin: AdminDrain, Checks: up},
			Verdict{Healthy: true, Reason: "drain by hand"}},
		{"drained by hand, and the agent is ready", Service{Weight: 100, Admin: AdminDrain, Agents: says("ready up 100%")},
			Verdict{Healthy: true, Reason: "drain by hand"}},
		{"drained by hand, and a check is down", Service{Weight: 100, Admin: AdminDrain, Checks: map[string]State{"http": Down}},
			Verdict{Reason: "drain by hand"}},
		{"the agent drains", Service{Weight: 100, Checks: up, Agents: says("drain")},
			Verdict{Healthy: true, Reason: "drain by agent load"}},
		{"the agent is in maintenance", Service{Weight: 100, Checks: up, Agents: says("maint 50%")},
			Verdict{Healthy: true, Reason: "maint by agent load"}},
		{"the agent is up, a check is down", Service{Weight: 100, Checks: map[string]State{"http": Down}, Agents: says("up")},
			Verdict{Weight: 100, Reason: "check http is down"}},
		{"the agent is down, the checks are up", Service{Weight: 100, Checks: up, Agents: says("down # disk is full")},
			Verdict{Weight: 100, Reason: "agent load says down: disk is full"}},
		{"stopped", Service{Weight: 100, Checks: up, Agents: says("stopped")}, Verdict{Weight: 100, Reason: "agent load says stopped"}},
		{"failed", Service{Weight: 100, Checks: up, Agents: says("fail")}, Verdict{Weight: 100, Reason: "agent load says fail"}},
		{"half the weight", Service{Weight: 100, Agents: says("50%")},
			Verdict{Weight: 50, Healthy: true, Reason: "agent load wants 50 % of the weight"}},
		{"all of the weight", Service{Weight: 100, Agents: says("100%")}, Verdict{Weight: 100, Healthy: true}},
		{"little of little is not nothing", Service{Weight: 3, Agents: says("1%")},
			Verdict{Weight: 1, Healthy: true, Reason: "agent load wants 1 % of the weight"}},
		{"nothing of the weight", Service{Weight: 100, Agents: says("0%")},
			Verdict{Healthy: true, Reason: "agent load wants 0 % of the weight"}},
		{"more than there is", Service{Weight: 100, Agents: says("1000%")},
			Verdict{Weight: lb.MaxWeight, Healthy: true, Reason: "agent load wants 1000 % of the weight"}},
		{"a weight of nothing stays that", Service{Agents: says("50%")}, Verdict{Healthy: true}},
		{"maxconn changes nothing", Service{Weight: 100, Agents: says("maxconn:0")}, Verdict{Weight: 100, Healthy: true}},
		{"two agents", Service{Weight: 100, Agents: map[string]Agent{"a": {Percent: new(50)}, "b": {Percent: new(50), Health: AgentFail}}},
			Verdict{Weight: 25, Reason: "agent b says fail"}},
	} {
		if diff := cmp.Diff(c.want, c.service.Verdict()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
