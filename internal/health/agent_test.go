package health

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEveryWordOfTheAgentProtocol(t *testing.T) {
	for _, c := range []struct {
		line string
		want Reply
	}{
		{"up", Reply{Health: AgentUp}},
		{"down", Reply{Health: AgentDown}},
		{"fail", Reply{Health: AgentFail}},
		{"stopped", Reply{Health: AgentStopped}},
		{"ready", Reply{Admin: new(AdminReady)}},
		{"drain", Reply{Admin: new(AdminDrain)}},
		{"maint", Reply{Admin: new(AdminMaint)}},
		{"75%", Reply{Percent: new(75)}},
		{"0%", Reply{Percent: new(0)}},
		{"25600%", Reply{Percent: new(25600)}},
		{"maxconn:100", Reply{MaxConn: new(100)}},
		{"maxconn:0", Reply{MaxConn: new(0)}},

		{"UP Ready 50% MAXCONN:7", Reply{Health: AgentUp, Admin: new(AdminReady), Percent: new(50), MaxConn: new(7)}},
		{"up,ready\t50%", Reply{Health: AgentUp, Admin: new(AdminReady), Percent: new(50)}},
		{" ,\t up , ", Reply{Health: AgentUp}},
		{"up\r\ndown", Reply{Health: AgentUp}},
		{"up\ndown", Reply{Health: AgentUp}},
		{"down up", Reply{Health: AgentUp}},
		{"drain ready", Reply{Admin: new(AdminReady)}},
		{"10% 20%", Reply{Percent: new(20)}},
		{"down # disk is full ", Reply{Health: AgentDown, Note: "disk is full"}},
		{"down #up # drain", Reply{Health: AgentDown, Note: "up # drain"}},
		{"down#x", Reply{Ignored: []string{"down#x"}}},

		{"", Reply{}},
		{"# only a note", Reply{Note: "only a note"}},
		{"upp", Reply{Ignored: []string{"upp"}}},
		{"up hello world", Reply{Health: AgentUp, Ignored: []string{"hello", "world"}}},
		{"75", Reply{Ignored: []string{"75"}}},
		{"%", Reply{Ignored: []string{"%"}}},
		{"-5%", Reply{Ignored: []string{"-5%"}}},
		{"+5%", Reply{Ignored: []string{"+5%"}}},
		{"5%5", Reply{Ignored: []string{"5%5"}}},
		{"1.5%", Reply{Ignored: []string{"1.5%"}}},
		{"25601%", Reply{Ignored: []string{"25601%"}}},
		{"99999999999999999999%", Reply{Ignored: []string{"99999999999999999999%"}}},
		{"maxconn: 5", Reply{Ignored: []string{"maxconn:", "5"}}},
		{"maxconn:2147483648", Reply{Ignored: []string{"maxconn:2147483648"}}},
	} {
		if diff := cmp.Diff(c.want, ParseReply(c.line)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.line, diff)
		}
	}
}

func TestWhatALineDoesNotMentionStays(t *testing.T) {
	var agent Agent
	for _, c := range []struct {
		line string
		want Agent
	}{
		{"hello", Agent{}},
		{"drain", Agent{Admin: AdminDrain}},
		{"50% maxconn:9", Agent{Admin: AdminDrain, Percent: new(50), MaxConn: new(9)}},
		{"down # disk", Agent{Health: AgentDown, Note: "disk", Admin: AdminDrain, Percent: new(50), MaxConn: new(9)}},
		{"ready # done", Agent{Health: AgentDown, Note: "disk", Percent: new(50), MaxConn: new(9)}},
		{"up 100%", Agent{Health: AgentUp, Percent: new(100), MaxConn: new(9)}},
	} {
		before := agent
		agent = agent.Apply(ParseReply(c.line))
		if diff := cmp.Diff(c.want, agent); diff != "" {
			t.Errorf("after %q (-want +got):\n%s", c.line, diff)
		}
		if agent.Equal(before) != cmp.Equal(agent, before) {
			t.Errorf("after %q: Equal says %v", c.line, agent.Equal(before))
		}
	}
}

func FuzzParseReply(f *testing.F) {
	for _, line := range []string{"up ready 75% maxconn:10 # fine\n", "down,maint\t0%", "# \r\n", "100%%", "maxconn:-1"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		r := ParseReply(line)
		if r.Percent != nil && (*r.Percent < 0 || *r.Percent > MaxPercent) {
			t.Errorf("percent %d", *r.Percent)
		}
		if r.MaxConn != nil && *r.MaxConn < 0 {
			t.Errorf("maxconn %d", *r.MaxConn)
		}
		if strings.ContainsAny(r.Note+strings.Join(r.Ignored, ""), "\r\n\x00") {
			t.Errorf("%q and %q are from more than one line", r.Note, r.Ignored)
		}
		// The words alone, in another order of white space, mean the same.
		end := strings.IndexAny(line+"\n", "\r\n\x00")
		again := ParseReply("\t" + strings.ReplaceAll(line[:end], ",", " , ") + " \r")
		again.Note = r.Note
		if diff := cmp.Diff(r, again); diff != "" {
			t.Errorf("with other separators (-once +again):\n%s", diff)
		}
		// What it says can be said twice.
		a := Agent{}.Apply(r)
		if !a.Apply(r).Equal(a) || r.Empty() != a.Equal(Agent{}) && r.Admin == nil {
			t.Errorf("%+v", a)
		}
		Service{Weight: 100, Agents: map[string]Agent{"a": a}}.Verdict()
	})
}
