package cluster

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

var sample = envelope{
	kind: userMessage, cluster: "prod", from: "n1", to: "n2", fromLife: 7, toLife: 9, sequence: 11,
	payload: []byte("hello"),
}

func TestAnEnvelopeIsOpenedAsItWasSealed(t *testing.T) {
	key := newKey(t)
	sealed := sample.seal(key)
	got, err := parseEnvelope(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if !got.signedBy(public(key)) {
		t.Error("signature not accepted")
	}
	if got.signedBy(public(newKey(t))) {
		t.Error("signature accepted for another key")
	}
	got.signed, got.signature = nil, nil
	if diff := cmp.Diff(&sample, got, cmp.AllowUnexported(envelope{})); diff != "" {
		t.Errorf("envelope (-want +got):\n%s", diff)
	}
}

func TestEveryByteOfAnEnvelopeIsSigned(t *testing.T) {
	key := newKey(t)
	sealed := sample.seal(key)
	for i := range sealed {
		for bit := range 8 {
			forged := bytes.Clone(sealed)
			forged[i] ^= 1 << bit
			if e, err := parseEnvelope(forged); err == nil && e.signedBy(public(key)) {
				t.Fatalf("bit %d of byte %d of %d may be changed", bit, i, len(sealed))
			}
		}
	}
	for n := range sealed {
		if _, err := parseEnvelope(sealed[:n]); err == nil {
			t.Errorf("accepted after %d of %d bytes", n, len(sealed))
		}
	}
	if _, err := parseEnvelope(append(sealed, 0)); err == nil {
		t.Error("a byte at the end was accepted")
	}
}

func FuzzEnvelope(f *testing.F) {
	key := newKey(f)
	f.Add(sample.seal(key))
	f.Add([]byte{})
	f.Add([]byte{envelopeVersion, 0, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEnvelope(b)
		if err != nil {
			return
		}
		if e.signedBy(public(key)) && !bytes.Equal(b, sample.seal(key)) {
			t.Fatalf("accepted: %x", b)
		}
		// What can be parsed is written the same way.
		if again := e.seal(key); !bytes.Equal(again[:len(e.signed)], e.signed) {
			t.Fatalf("written as %x, read from %x", again, b)
		}
	})
}

func FuzzNodeMeta(f *testing.F) {
	key, addr := newKey(f), netip.MustParseAddrPort("192.0.2.1:7946")
	sealed := nodeMeta{life: 3, key: public(key), version: "1.0", extra: []byte("x")}.seal("prod", "n1", addr, key)
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := openMeta(b, "prod", "n1", addr); err == nil && bytes.Equal(m.key, public(key)) && !bytes.Equal(b, sealed) {
			t.Fatalf("accepted: %x", b)
		}
	})
}

func TestWhatANodeSaysAboutItselfIsBoundToItsNameAndPlace(t *testing.T) {
	key, addr := newKey(t), netip.MustParseAddrPort("192.0.2.1:7946")
	want := nodeMeta{life: 3, key: public(key), version: "1.0", extra: []byte("x")}
	sealed := want.seal("prod", "n1", addr, key)
	got, err := openMeta(sealed, "prod", "n1", addr)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(nodeMeta{})); err != nil || diff != "" {
		t.Fatalf("%v\n%s", err, diff)
	}
	for name, try := range map[string]func() error{
		"another cluster": func() error { _, err := openMeta(sealed, "test", "n1", addr); return err },
		"another name":    func() error { _, err := openMeta(sealed, "prod", "n2", addr); return err },
		"another address": func() error {
			_, err := openMeta(sealed, "prod", "n1", netip.MustParseAddrPort("192.0.2.2:7946"))
			return err
		},
		"another port": func() error {
			_, err := openMeta(sealed, "prod", "n1", netip.MustParseAddrPort("192.0.2.1:7947"))
			return err
		},
		"an address with a zone": func() error {
			_, err := openMeta(sealed, "prod", "n1", netip.AddrPort{})
			return err
		},
	} {
		if err := try(); err == nil || err.Error() != "bad signature" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range sealed {
		forged := bytes.Clone(sealed)
		forged[i] ^= 0x10
		if m, err := openMeta(forged, "prod", "n1", addr); err == nil && bytes.Equal(m.key, public(key)) {
			t.Fatalf("byte %d may be changed", i)
		}
	}
}

func TestTheLargestNodeMetaFits(t *testing.T) {
	key := newKey(t)
	m := nodeMeta{life: 1, key: public(key), version: string(make([]byte, MaxVersion)), extra: make([]byte, MaxMeta)}
	if n := len(m.seal("prod", "n1", netip.MustParseAddrPort("192.0.2.1:7946"), key)); n > 512 {
		t.Errorf("%d bytes", n)
	}
}

func TestAWindowTakesEachNumberOnce(t *testing.T) {
	for round := range 200 {
		random := mrand.New(mrand.NewPCG(1, uint64(round)))
		var w window
		seen := make(map[uint64]bool)
		var highest uint64
		for range 5000 {
			n := uint64(random.IntN(20)) + 1
			switch random.IntN(4) {
			case 0:
				n += highest
			case 1:
				n = highest - min(highest, uint64(random.IntN(2*windowSize)))
			case 2:
				n += highest + uint64(random.IntN(3))*windowSize
			}
			want := n > 0 && !seen[n] && n+windowSize > highest
			if got := w.take(n); got != want {
				t.Fatalf("round %d: take(%d) with highest %d: %v, want %v", round, n, highest, got, want)
			}
			if want {
				seen[n] = true
				highest = max(highest, n)
			}
		}
	}
}

func TestAWindowSurvivesTheLargestNumbers(t *testing.T) {
	var w window
	const top = ^uint64(0)
	var got []bool
	for _, n := range []uint64{1, top - 1, top, top, top - 1, 2} {
		got = append(got, w.take(n))
	}
	if diff := cmp.Diff([]bool{true, true, true, false, false, false}, got); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
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
	if got := fmt.Sprint(reasonCount); got != "unknown" {
		t.Errorf("a reason that there is not is called %s", got)
	}
}
