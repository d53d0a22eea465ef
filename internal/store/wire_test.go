package store_test

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/store"
)

var wireEntries = []store.Entry{
	{Key: "a", Value: []byte("v"), Stamp: 0x0102030405060708, Node: "n1"},
	{Key: "b", Deleted: true, Stamp: 1, Node: "n2"},
	{Key: "c", Value: []byte{}, Stamp: 2, Node: "n2"},
}

// The bytes of wireEntries: a change here is a change of wireVersion.
const wireBytes = "01" + "03" +
	"0161" + "0102030405060708" + "026e31" + "00" + "0176" +
	"0162" + "0000000000000001" + "026e32" + "01" +
	"0163" + "0000000000000002" + "026e32" + "00" + "00"

func TestAMessageHasTheDocumentedBytes(t *testing.T) {
	if got := hex.EncodeToString(store.Encode(wireEntries)); got != wireBytes {
		t.Errorf("encoded\n%s, want\n%s", got, wireBytes)
	}
	msg, err := hex.DecodeString(wireBytes)
	if err != nil {
		t.Fatal(err)
	}
	got, err := store.Decode(msg)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wireEntries, got); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	clear(msg)
	if diff := cmp.Diff(wireEntries, got); diff != "" {
		t.Errorf("after the message's buffer was used again (-want +got):\n%s", diff)
	}
}

func TestAWrongMessageSaysWhatIsWrong(t *testing.T) {
	one := func(key, rest string) string { return "0101" + key + "0000000000000001" + "026e31" + rest }
	for _, c := range []struct{ name, msg, want string }{
		{"nothing", "", "not a message of this version"},
		{"version", "0200", "not a message of this version"},
		{"no number", "01", "message ends early"},
		{"fewer entries", "0101", "message ends early"},
		{"more entries than a store takes", "01818001", "a number is larger than 8192"},
		{"endless number", "01ffffffffffffffffffff01", "a number is larger than 8192"},
		{"long number", "018000", "a number is longer than it has to be"},
		{"trailing", "010000", "1 bytes after the last entry"},
		{"empty key", one("00", "0000"), "empty key"},
		{"control character", one("010a", "0000"), `key "\n": only printable ASCII without spaces is allowed`},
		{"long key", "0101" + "8102", "a number is larger than 256"},
		{"flag", one("0161", "0200"), `key "a": unknown flag 2`},
		{"long value", one("0161", "00"+"8120"), "a number is larger than 4096"},
		{"value cut", one("0161", "00"+"0561"), "message ends early"},
		{"twice", "0102" + strings.Repeat("0161"+"0000000000000001"+"026e31"+"01", 2), "key a after a"},
		{"descending", "0102" + "0162" + "0000000000000001" + "026e31" + "01" + "0161" + "0000000000000001" + "026e31" + "01", "key a after b"},
	} {
		msg, err := hex.DecodeString(c.msg)
		if err != nil {
			t.Fatal(err)
		}
		got, err := store.Decode(msg)
		if err == nil || err.Error() != "decode entries: "+c.want {
			t.Errorf("%s: %v, %v; want %s", c.name, got, err, c.want)
		}
	}
}

func TestAllOfAMessageIsNeeded(t *testing.T) {
	msg := store.Encode(wireEntries)
	for n := range msg {
		if got, err := store.Decode(msg[:n]); err == nil {
			t.Errorf("the first %d bytes are %v", n, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(store.Encode(nil))
	f.Add(store.Encode(wireEntries))
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		noise := make([]byte, r.IntN(200))
		for i := range noise {
			noise[i] = byte(r.Uint32())
		}
		f.Add(append([]byte{1, 3}, noise...))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		entries, err := store.Decode(msg)
		if err != nil {
			if entries != nil {
				t.Errorf("an error and entries: %v", entries)
			}
			return
		}
		if again := store.Encode(entries); !bytes.Equal(again, msg) {
			t.Errorf("another encoding of the same: %x, not %x", again, msg)
		}
		twice, err := store.Decode(store.Encode(entries))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(entries, twice, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}
