package heartbeat

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var sample = frame{
	cluster: clusterID("prod"), life: 7, counter: 1 << 40, absence: 1500 * time.Millisecond, name: "n1",
	heard: []heard{{id: nodeID("n2"), life: 3, lately: true}, {id: nodeID("n3"), life: 1 << 31}},
}

func testSigner(t testing.TB, secrets ...string) *signer {
	t.Helper()
	var keys [][]byte
	for _, s := range secrets {
		keys = append(keys, []byte(s))
	}
	s, err := newSigner(keys)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// open does what hear does with a frame, up to its meaning.
func open(s *signer, b []byte) (*frame, bool) {
	body, mac, err := split(b)
	if err != nil || !s.verify(body, mac) {
		return nil, false
	}
	f, err := parse(body)
	return f, err == nil
}

func TestAFrameIsReadAsItWasWritten(t *testing.T) {
	s := testSigner(t, "secret")
	b := s.sign(sample.encode())
	if len(b) != 1+2+8+8+8+4+1+2+1+2*13+16 {
		t.Errorf("%d bytes", len(b))
	}
	for padding := range 20 { // links pad short frames
		got, ok := open(s, append(bytes.Clone(b), make([]byte, padding)...))
		if !ok {
			t.Fatal("refused")
		}
		if diff := cmp.Diff(&sample, got, cmp.AllowUnexported(frame{}, heard{})); diff != "" {
			t.Fatalf("frame (-want +got):\n%s", diff)
		}
	}
}

func TestEveryBitOfAFrameIsSigned(t *testing.T) {
	s := testSigner(t, "secret")
	b := s.sign(sample.encode())
	for i := range b {
		for bit := range 8 {
			forged := bytes.Clone(b)
			forged[i] ^= 1 << bit
			if _, ok := open(s, forged); ok {
				t.Fatalf("bit %d of byte %d may be changed", bit, i)
			}
		}
		if _, ok := open(s, b[:i]); ok {
			t.Errorf("accepted after %d of %d bytes", i, len(b))
		}
	}
}

func TestTheLargestFrameFitsEveryLink(t *testing.T) {
	f := frame{life: 1, counter: 1, name: string(make([]byte, maxName)), heard: make([]heard, maxHeard)}
	s := testSigner(t)
	b := s.sign(f.encode())
	if len(b) != maxFrame || len(b) > 1500 {
		t.Errorf("%d bytes, maxFrame is %d", len(b), maxFrame)
	}
	if _, ok := open(s, b); !ok {
		t.Error("refused")
	}
}

func TestAFrameIsAcceptedWithAnyKeyAndMadeWithTheFirst(t *testing.T) {
	body := sample.encode()
	for _, c := range []struct {
		made, checked []string
		want          bool
	}{
		{[]string{"old"}, []string{"old"}, true},
		{[]string{"old"}, []string{"old", "new"}, true},
		{[]string{"new", "old"}, []string{"old", "new"}, true},
		{[]string{"new", "old"}, []string{"old"}, false},
		{[]string{"new"}, []string{"old"}, false},
		{nil, nil, true},
		{nil, []string{"old"}, false},
	} {
		if _, got := open(testSigner(t, c.checked...), testSigner(t, c.made...).sign(bytes.Clone(body))); got != c.want {
			t.Errorf("made with %q, checked with %q: %v", c.made, c.checked, got)
		}
	}
}

func FuzzFrame(f *testing.F) {
	s := testSigner(f, "secret")
	f.Add(sample.encode())
	f.Add(s.sign(sample.encode()))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, ok := open(s, b); ok {
			if again := s.sign(got.encode()); !bytes.Equal(again, b[:len(again)]) {
				t.Fatalf("accepted: %x", b)
			}
		}
		// What no key protects must hold, too: the parser sees what another node's bug signs.
		signed := s.sign(bytes.Clone(b))
		if len(signed) >= 3 {
			signed = append([]byte{frameVersion, byte(len(signed) >> 8), byte(len(signed))}, b[min(3, len(b)):]...)
			signed = s.sign(signed)
		}
		if got, ok := open(s, signed); ok {
			if again := s.sign(got.encode()); !bytes.Equal(again, signed) {
				t.Fatalf("written as %x, read from %x", again, signed)
			}
		}
	})
}

func TestEveryReasonHasAName(t *testing.T) {
	seen := make(map[string]bool)
	for r := range reasonCount {
		if name := r.String(); name == "" || seen[name] {
			t.Errorf("reason %d is called %q", r, name)
		} else {
			seen[name] = true
		}
	}
	if got := reasonCount.String(); got != "unknown" {
		t.Errorf("a reason that there is not is called %s", got)
	}
}
