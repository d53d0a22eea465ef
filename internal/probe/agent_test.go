package probe

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/health"
)

func TestAgent(t *testing.T) {
	for _, c := range []struct {
		says   string
		ok     bool
		detail string
		reply  *health.Reply
	}{
		{"up 75%\n", true, "up 75%", &health.Reply{Health: health.AgentUp, Percent: new(75)}},
		{"ready\r\n", true, "ready", &health.Reply{Admin: new(health.AdminReady)}},
		{"drain\nup\n", true, "drain", &health.Reply{Admin: new(health.AdminDrain)}},
		{"down # disk\x1b[2J full\n", false, "down # disk?[2J full", &health.Reply{Health: health.AgentDown, Note: "disk?[2J full"}},
		{"up upp\n", true, `up upp (ignored: ["upp"])`, &health.Reply{Health: health.AgentUp, Ignored: []string{"upp"}}},
		{"hello\n", false, `reply "hello" has no known word`, nil},
		{"\n", false, `reply "" has no known word`, nil},
		{"100", false, `reply "100" has no end of line`, nil},
		{"", false, `reply "" has no end of line`, nil},
		{strings.Repeat("up ", 1000) + "\n", false, "reply has no end of line in 1024 bytes", nil},
	} {
		r := attempt(t, says(t, c.says, false), Spec{Kind: Agent}, 5*time.Second)
		want := health.Result{At: r.At, Took: r.Took, OK: c.ok, Detail: c.detail, Agent: c.reply}
		if diff := cmp.Diff(want, r); diff != "" {
			t.Errorf("%.20q (-want +got):\n%s", c.says, diff)
		}
	}
	expectDetail(t, closed(t), Spec{Kind: Agent}, false, "connect: connection refused")
	expectTimeout(t, says(t, "up", true), Spec{Kind: Agent}, "read: timeout")

	asked := serve(t, func(conn net.Conn) {
		question, _ := bufio.NewReader(conn).ReadString('\n')
		_, _ = io.WriteString(conn, strings.ToLower(question))
	})
	expectDetail(t, asked, Spec{Kind: Agent, Ask: "MAINT\n"}, true, "maint")
}
