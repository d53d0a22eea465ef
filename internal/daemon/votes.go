package daemon

import (
	"context"
	"maps"
	"net/netip"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/member"
	"github.com/lbctl/lbctl/internal/nexthop"
	"github.com/lbctl/lbctl/internal/probe"
)

// found is what this director found out about the backends of the services that forward.
func found(
	cfg *config.Config, checked map[probe.Subject]health.Service, ways map[netip.Addr]nexthop.Way, attempts map[probe.Subject]*health.Attempts,
) member.Votes {
	votes := make(member.Votes)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		if s.Forward == lb.ForwardLocal {
			continue
		}
		for _, b := range serversOf(s) {
			about := probe.Subject{Service: s.Name, Backend: b.Name}
			vote := checked[about].Vote()
			if problem := ways[b.Address].Problem; problem != "" {
				vote.Healthy, vote.Reason = false, problem
			}
			if judge, ok := attempts[about]; ok {
				vote = vote.And(judge.Vote())
			}
			votes[about] = vote
		}
	}
	return votes
}

// cast is without what is not found out yet: else each start of a director would have all others take
// dead backends for living ones, as checks begin up.
func cast(own member.Votes, unsure map[probe.Subject]bool) member.Votes {
	votes := maps.Clone(own)
	maps.DeleteFunc(votes, func(about probe.Subject, _ health.Vote) bool { return unsure[about] })
	return votes
}

// verdicts is what all directors together take each backend for. It tells the others what this one
// found out.
func (p *planner) verdicts(ways map[netip.Addr]nexthop.Way) map[probe.Subject]health.Vote {
	unsure := p.checks.Unsure() // before what the checks say, or a start could pass for a result
	own := found(p.cfg, p.checks.Health(), ways, p.forwarder.attempts.judges)
	if p.member == nil {
		return own
	}
	p.member.Vote(cast(own, unsure))
	all, err := p.member.VotesByNode(context.Background()) // it ends when the member does
	if err != nil {
		return own
	}
	return agreed(p.cfg, own, all)
}

// agreed counts the votes about all that this director has an opinion on, which counts where there is
// no vote.
func agreed(cfg *config.Config, own member.Votes, all map[string]member.Votes) map[probe.Subject]health.Vote {
	share := make(map[string]int)
	for i := range cfg.Services {
		share[cfg.Services[i].Name] = cfg.Services[i].Agree
	}
	verdicts := make(map[probe.Subject]health.Vote, len(own))
	for about := range own {
		votes := make(map[string]health.Vote)
		for node, said := range all {
			if vote, ok := said[about]; ok {
				votes[node] = vote
			}
		}
		if len(votes) == 0 {
			verdicts[about] = own[about]
			continue
		}
		verdicts[about] = health.Agree(votes, share[about.Service])
	}
	return verdicts
}
