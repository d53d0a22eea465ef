package member

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAMessageIsReadAsItWasFramed(t *testing.T) {
	for _, payload := range [][]byte{{}, {0}, []byte("text")} {
		kind, got, err := unframe(frame(kindStore, payload))
		if err != nil || kind != kindStore || string(got) != string(payload) {
			t.Errorf("%q: kind %d, %q, %v", payload, kind, got, err)
		}
	}
	if _, _, err := unframe(nil); err == nil {
		t.Error("nothing was taken for a message")
	}
}

func TestFactsAreReadAsTheyWereWritten(t *testing.T) {
	want := Facts{Version: "1.2", Connections: 3, Held: 4, Sick: []string{"web: check http is down"}, Digest: 1<<64 - 1}
	message, err := encodeFacts(want)
	if err != nil {
		t.Fatal(err)
	}
	kind, payload, err := unframe(message)
	if err != nil || kind != kindFacts {
		t.Fatalf("kind %d, %v", kind, err)
	}
	var got Facts
	if err := json.Unmarshal(payload, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
}
