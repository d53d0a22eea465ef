package member

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/probe"
)

// reread returns what a peer makes of votes, and how long the message is.
func reread(t *testing.T, v Votes) (Votes, int) {
	t.Helper()
	b := v.ballot(7)
	message, err := b.encode()
	if err != nil {
		t.Fatal(err)
	}
	kind, payload, err := unframe(message)
	if err != nil || kind != kindVotes {
		t.Fatalf("kind %d, %v", kind, err)
	}
	var got ballot
	if err := json.Unmarshal(payload, &got); err != nil || got.Number != 7 {
		t.Fatalf("number %d, %v", got.Number, err)
	}
	return got.votes(), len(message)
}

func TestVotesAreReadAsTheyWereWritten(t *testing.T) {
	for _, want := range []Votes{
		{},
		{{Service: "web", Backend: "b1"}: health.Fine},
		{
			{Service: "web", Backend: "b1"}: health.Fine, {Service: "web", Backend: "b2"}: {Percent: 100, Reason: "check tcp is down"},
			{Service: "dns", Backend: "b1"}: {Healthy: true, Percent: 0, Reason: "drain by agent a"},
		},
	} {
		got, _ := reread(t, want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("votes (-want +got):\n%s", diff)
		}
	}
}

func TestVotesAboutAllBackendsThereCanBeFitIntoAMessage(t *testing.T) {
	all := make(Votes)
	for i := range 1 << 16 {
		about := probe.Subject{Service: "web", Backend: fmt.Sprintf("backend-with-a-name-%d", i)}
		all[about] = health.Vote{Percent: 100, Reason: strings.Repeat("x", 100)}
	}
	got, size := reread(t, all)
	for about, vote := range all {
		vote.Reason = ""
		all[about] = vote
	}
	if !maps.Equal(all, got) || size > cluster.MaxMessage {
		t.Errorf("%d bytes, %d votes of %d", size, len(got), len(all))
	}
}
