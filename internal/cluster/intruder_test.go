package cluster_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/memberlist"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/nettest"
)

// An intruder has the cluster's key and speaks plain memberlist.
type intruder struct {
	*memberlist.Memberlist
	meta []byte
}

func (i *intruder) NodeMeta(int) []byte             { return i.meta }
func (i *intruder) NotifyMsg([]byte)                {}
func (i *intruder) GetBroadcasts(int, int) [][]byte { return nil }
func (i *intruder) LocalState(bool) []byte          { return nil }
func (i *intruder) MergeRemoteState([]byte, bool)   {}

// intrude joins the node at to as name; meta is what it says about itself.
func intrude(t *testing.T, key cluster.Key, name string, at, to netip.AddrPort, meta []byte) *intruder {
	t.Helper()
	i := &intruder{meta: meta}
	conf := memberlist.DefaultLocalConfig()
	conf.Name, conf.Label, conf.Delegate, conf.SecretKey = name, "prod", i, key[:]
	conf.BindAddr, conf.BindPort, conf.AdvertisePort = at.Addr().String(), int(at.Port()), int(at.Port())
	conf.Logger = log.New(io.Discard, "", 0)
	list, err := memberlist.Create(conf)
	if err != nil {
		t.Fatal(err)
	}
	i.Memberlist = list
	t.Cleanup(func() {
		if err := list.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	nettest.Eventually(t, time.Minute, func() error { // who is to be joined may not listen yet
		_, err := list.Join([]string{to.String()})
		return err
	})
	return i
}

// send sends a message to the node at an address.
func (i *intruder) send(t *testing.T, to netip.AddrPort, message []byte) {
	t.Helper()
	node := &memberlist.Node{Addr: to.Addr().AsSlice(), Port: to.Port()}
	if err := i.SendReliable(node, message); err != nil {
		t.Fatal(err)
	}
}

// drops waits until exactly these reasons have counted, gossip errors aside.
func (n *node) drops(t *testing.T, want map[cluster.Reason]uint64) {
	t.Helper()
	nettest.Eventually(t, time.Minute, func() error {
		got := n.Counters().Dropped
		maps.DeleteFunc(got, func(r cluster.Reason, count uint64) bool { return count == 0 || r == cluster.GossipError })
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("dropped (-want +got):\n%s", diff)
		}
		return nil
	})
}

func newNodeKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func TestForgedMessagesAreDroppedAndCounted(t *testing.T) {
	s, key := newSite(), cluster.GenerateKey()
	n1, n2 := start(t, s.options(t, 1, key)), start(t, s.options(t, 2, key))
	n1.sees(t, "n2/1")
	n2.sees(t, "n1/1")

	own := newNodeKey(t)
	bad := intrude(t, key, "n9", s.addr(9), s.addr(1), nil)
	want := map[cluster.Reason]uint64{}
	// What it says about itself is not signed: each round of gossip says so again.
	for _, forged := range []struct {
		reason  cluster.Reason
		message []byte
	}{
		{cluster.Malformed, []byte("hello")},
		{cluster.Malformed, append(cluster.Seal("prod", "n2", 1, "n1", 1, 1000, nil, own), 0)},
		{cluster.OtherCluster, cluster.Seal("test", "n2", 1, "n1", 1, 1000, nil, own)},
		{cluster.OtherNode, cluster.Seal("prod", "n2", 1, "n3", 1, 1000, nil, own)},
		{cluster.UnknownPeer, cluster.Seal("prod", "n9", 1, "n1", 1, 1000, nil, own)},
		{cluster.UnknownPeer, cluster.Seal("prod", "n1", 1, "n1", 1, 1000, nil, own)}, // ourselves
		{cluster.BadSignature, cluster.Seal("prod", "n2", 1, "n1", 1, 1000, nil, own)},
		{cluster.BadSignature, cluster.Seal("prod", "n2", 99, "n1", 1, 1, nil, own)},
	} {
		bad.send(t, s.addr(1), forged.message)
		want[forged.reason]++
	}
	nettest.Eventually(t, time.Minute, func() error {
		got := n1.Counters().Dropped
		maps.DeleteFunc(got, func(r cluster.Reason, count uint64) bool {
			return count == 0 || r == cluster.GossipError || r == cluster.BadClaim
		})
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("dropped (-want +got):\n%s", diff)
		}
		return nil
	})
	if n1.Counters().Dropped[cluster.BadClaim] == 0 {
		t.Error("an unsigned claim was not counted")
	}
	n1.told(t, "n2 alive=true life=1")
	n1.gets(t)
}

func TestAMessageCountsOnceAndForOneLife(t *testing.T) {
	s, key := newSite(), cluster.GenerateKey()
	opts := s.options(t, 1, key)
	opts.Life = 5
	n1 := start(t, opts)
	// A node of its own make, so that the test can sign in its name.
	own := newNodeKey(t)
	n2 := intrude(t, key, "n2", s.addr(2), s.addr(1), cluster.SealMeta("prod", "n2", 3, s.addr(2), own))
	nettest.Eventually(t, time.Minute, func() error {
		if len(n1.Peers()) != 1 {
			return fmt.Errorf("peers: %+v", n1.Peers())
		}
		return nil
	})
	if got := n1.alive(); len(got) > 0 {
		t.Errorf("alive without an answer to the challenge: %q", got)
	}
	seal := func(fromLife, toLife, sequence uint64) []byte {
		return cluster.Seal("prod", "n2", fromLife, "n1", toLife, sequence, fmt.Append(nil, fromLife, " ", sequence), own)
	}
	for range 3 {
		n2.send(t, s.addr(1), seal(3, 5, 10)) // once
	}
	n1.drops(t, map[cluster.Reason]uint64{cluster.Replayed: 2})
	n2.send(t, s.addr(1), seal(3, 5, 9))  // overtaken: once
	n2.send(t, s.addr(1), seal(3, 4, 11)) // for the life before
	n2.send(t, s.addr(1), seal(3, 6, 11)) // for one that is not ours
	n2.send(t, s.addr(1), seal(2, 5, 11)) // from the life before
	n1.drops(t, map[cluster.Reason]uint64{cluster.Replayed: 3, cluster.OtherLife: 2})
	n1.gets(t, "n2: 3 10", "n2: 3 9")
	n2.send(t, s.addr(1), seal(4, 5, 1)) // a new life begins
	n1.gets(t, "n2: 3 10", "n2: 3 9", "n2: 4 1")
	n2.send(t, s.addr(1), seal(3, 5, 12)) // and the old one is over
	nettest.Eventually(t, time.Minute, func() error {
		if got := n1.Counters().Dropped[cluster.Replayed]; got != 4 {
			return fmt.Errorf("%d replays", got)
		}
		return nil
	})
}

func TestANameStaysWithItsKeyUntilItIsForgotten(t *testing.T) {
	s, key := newSite(), cluster.GenerateKey()
	opts := s.options(t, 1, key)
	n1 := start(t, opts)
	n2 := start(t, s.options(t, 2, key))
	n1.sees(t, "n2/1")
	n2.stop()
	n1.sees(t)

	// n1 knows the key after a restart, too.
	n1.stop()
	opts.Life = 2
	n1 = start(t, opts)

	other := s.options(t, 2, key) // with a state directory, and so a key, of its own
	other.Life = 7
	n2 = start(t, other)
	n1.staysAlone(t, func() {
		if got := n2.alive(); len(got) > 0 {
			t.Fatalf("the refused one sees %q", got)
		}
	})
	status := n1.Status()
	if len(status.Refused) != 1 || status.Refused[0].Name != "n2" || status.Refused[0].Addr != s.addr(2) ||
		!bytes.Equal(status.Refused[0].PublicKey, n2.PublicKey()) {
		t.Errorf("refused: %+v", status.Refused)
	}
	if !strings.Contains(n1.log.String(), `level=ERROR msg="peer refused: its name is known by another key" peer=n2`) {
		t.Errorf("log:\n%s", n1.log.String())
	}

	if err := n1.Forget("n2"); err != nil {
		t.Fatal(err)
	}
	n1.sees(t, "n2/7")
	if status := n1.Status(); len(status.Refused) > 0 {
		t.Errorf("refused: %+v", status.Refused)
	}
	if err := n1.Forget("n2"); err == nil || err.Error() != "forget n2: it is alive" {
		t.Errorf("forgetting a peer that is alive: %v", err)
	}
	if err := n1.Forget("n8"); err == nil || err.Error() != "forget n8: unknown peer" {
		t.Errorf("forgetting nobody: %v", err)
	}
}

func TestAFileThatCannotBeUsedIsNeverReplaced(t *testing.T) {
	s, key := newSite(), cluster.GenerateKey()
	for _, file := range []struct{ name, text, want string }{
		{"node.key", "garbage", "cluster: node key %s: not 32 bytes in base64: restore it, or remove it and let the peers forget this node"},
		{"peers.json", "{", "cluster: known peers %s: unexpected end of JSON input: restore it, or remove it to trust who comes first"},
		{"peers.json", `{"version":2}`, "cluster: known peers %s: version 2, want 1"},
		{"peers.json", `{"version":1,"peers":{"n2":{"key":"AAAA","life":1}}}`, "cluster: known peers %s: n2: key of 3 bytes"},
	} {
		opts := s.options(t, 1, key)
		path := filepath.Join(opts.StateDir, file.name)
		if err := os.WriteFile(path, []byte(file.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := cluster.New(opts); err == nil || err.Error() != fmt.Sprintf(file.want, path) {
			t.Errorf("got  %v\nwant %s", err, fmt.Sprintf(file.want, path))
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != file.text {
			t.Errorf("%s is now %q, %v", path, now, err)
		}
	}
	opts := s.options(t, 1, key)
	path := filepath.Join(opts.StateDir, "node.key")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.New(opts); err == nil || !strings.Contains(err.Error(), "mode 0644 lets others in") {
		t.Errorf("a node key that others can read: %v", err)
	}
}

func TestGarbageChangesNothing(t *testing.T) {
	s, key := newSite(), cluster.GenerateKey()
	n1, n2 := start(t, s.options(t, 1, key)), start(t, s.options(t, 2, key))
	n1.sees(t, "n2/1")
	n2.sees(t, "n1/1")

	garbage := make([]byte, 64<<10)
	rand.Read(garbage)
	// Each of these gets past another one of the first checks.
	prefixes := [][]byte{nil, {244, 4, 'p', 'r', 'o', 'd'}, {244, 4, 'p', 'r', 'o', 'd', 10}, {244, 255}, {244}, {9}, {12}}
	udp, err := net.Dial("udp", s.addr(1).String())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, prefix := range prefixes {
		for _, size := range []int{0, 1, 2, 5, 20, 100, 1400, 65000} {
			if _, err := udp.Write(append(bytes.Clone(prefix), garbage[:size]...)); err != nil {
				t.Fatal(err)
			}
			if size%100 != 0 {
				continue
			}
			tcp, err := net.Dial("tcp", s.addr(1).String())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = tcp.Write(append(bytes.Clone(prefix), garbage...)) // it may hang up first
			tcp.Close()
		}
	}
	for rest := garbage; len(rest) > 0; rest = rest[min(len(rest), 1024):] {
		if _, err := udp.Write(rest[:min(len(rest), 1024)]); err != nil {
			t.Fatal(err)
		}
	}
	if err := n2.Send("n1", []byte("still here")); err != nil {
		t.Error(err)
	}
	n1.gets(t, "n2: still here")
	time.Sleep(500 * time.Millisecond) // as long as a false death would take
	n1.told(t, "n2 alive=true life=1")
	if n1.Counters().Dropped[cluster.GossipError] == 0 {
		t.Error("nothing was counted")
	}
}

func TestKeysAreRotatedWithoutLosingAMessage(t *testing.T) {
	s := newSite()
	old, fresh := cluster.GenerateKey(), cluster.GenerateKey()
	var nodes []*node
	for n := range byte(3) {
		nodes = append(nodes, start(t, s.options(t, n+1, old)))
	}
	for i, n := range nodes {
		var others []string
		for j := range nodes {
			if j != i {
				others = append(others, fmt.Sprintf("n%d/1", j+1))
			}
		}
		n.sees(t, others...)
	}
	ring := cluster.Ring{Keys: []cluster.Key{old}}
	var want []string
	say := func(word string) {
		t.Helper()
		for _, n := range nodes[1:] {
			if err := n.Send("n1", []byte(word)); err != nil {
				t.Error(err)
			}
		}
		want = append(want, "n2: "+word, "n3: "+word)
		nodes[0].gets(t, want...)
	}
	for _, step := range []struct {
		name string
		do   func(cluster.Ring) (cluster.Ring, error)
	}{
		{"add", func(r cluster.Ring) (cluster.Ring, error) { return r.Add(fresh) }},
		{"use", func(r cluster.Ring) (cluster.Ring, error) { return r.Use(fresh.ID()) }},
		{"only", func(r cluster.Ring) (cluster.Ring, error) { return r.Only(fresh.ID()) }},
	} {
		next, err := step.do(ring)
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range nodes { // one after the other, as an operator would
			if err := n.ReplaceKeys(next.Keys); err != nil {
				t.Fatal(err)
			}
			say(fmt.Sprintf("%s %d", step.name, i))
			time.Sleep(250 * time.Millisecond) // several probes of each by each
		}
		ring = next
	}
	for i, n := range nodes {
		for _, change := range n.changed() {
			if strings.Contains(change, "alive=false") {
				t.Errorf("n%d: %s", i+1, change)
			}
		}
		if text := n.log.String(); strings.Contains(text, "decrypt") {
			t.Errorf("n%d could not read something:\n%s", i+1, text)
		}
	}

	// The old key opens nothing any more.
	stranger := start(t, s.options(t, 4, old))
	stranger.staysAlone(t, func() {})
}
