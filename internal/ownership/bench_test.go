package ownership

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

// BenchmarkADeath is what one node of 32 does when another one dies: it agrees, finds out what is its
// own now, asks everybody, makes tokens, and tells the kernel.
func BenchmarkADeath(b *testing.B) {
	settled := settledMachine(b, 32)
	memory, now := encodeMemory(b, settled), settled.now
	for b.Loop() {
		b.StopTimer()
		m := decodeMemory(b, settled, memory, now)
		at, victim := now, "n31"
		others := slices.DeleteFunc(m.others(), func(name string) bool { return name == victim })
		for _, name := range others {
			m.Handle(at, Received{name, Opinion{m.Known[name].Life, 1 << 40, []Ref{{victim, m.Known[victim].Life}}}})
		}
		b.StartTimer()
		m.Handle(at, Silent{victim, true})
		made := 0
		claim := m.claiming
		for _, name := range others {
			a := m.Handle(at, Received{name, Grant{m.Known[name].Life, m.Life, claim.number, m.fingerprint, nil, Maybe{}}})
			for _, changed := range a.Changed {
				m.Table(changed.Domain)
				made += changed.Set.Len()
			}
		}
		if made < lb.Buckets/32/31/2 {
			b.Fatalf("%d buckets were made", made)
		}
	}
}

// settledMachine returns a machine that has its share of all buckets, among nodes that only answer.
func settledMachine(tb testing.TB, nodes int) *Machine {
	cfg := DefaultConfig("n00")
	m, err := New(cfg, 1, time.Second)
	if err != nil {
		tb.Fatal(err)
	}
	m.now = time.Second
	m.Handle(m.now, Weights{map[string]Weight{"": {Weight: 100, Healthy: true, MinNodes: 1}}})
	for i := 1; i < nodes; i++ {
		r := Record{
			Name: fmt.Sprintf("n%02d", i), Life: 1, Version: 9, Stage: StageMember, Lineage: Lineage{1, "n01"},
			Weights: map[string]Weight{"": {Weight: 100, Healthy: true, MinNodes: 1}},
		}
		m.Handle(m.now, HeardBy{r.Name, true, m.now})
		m.Handle(m.now, Received{r.Name, State{Life: 1, Number: 1, Records: []Record{r}}})
	}
	m.Handle(m.now, Ready{})
	for range 3 {
		for _, name := range m.others() {
			m.Handle(m.now, Received{name, State{Life: 1, Number: m.number(), Knowledge: m.fingerprint}})
		}
	}
	for _, name := range m.others() {
		m.Handle(m.now, Received{name, Maybe{Life: 1, Number: 1}})
		m.Handle(m.now, Received{name, Grant{1, 1, m.claiming.number, m.fingerprint, nil, Maybe{}}})
	}
	for range 50 { // until it trusts its ears
		m.now += cfg.Tick
		for _, name := range m.others() {
			m.Handle(m.now, HeardBy{name, true, m.now})
		}
		m.Handle(m.now, Tick{})
	}
	if share := m.Tokens[""].Held.Len(); share < lb.Buckets/nodes/2 {
		tb.Fatalf("has %d buckets", share)
	}
	return m
}

func encodeMemory(tb testing.TB, m *Machine) []byte {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(&m.memory); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// decodeMemory returns a copy of a machine, with the plans of the first.
func decodeMemory(tb testing.TB, first *Machine, encoded []byte, now time.Duration) *Machine {
	m, err := newMachine(first.cfg)
	if err != nil {
		tb.Fatal(err)
	}
	m.memory = memory{}
	if err := gob.NewDecoder(bytes.NewReader(encoded)).Decode(&m.memory); err != nil {
		tb.Fatal(err)
	}
	m.tables = &tables{first.tables.builder, maps.Clone(first.tables.known), first.tables.limit}
	began := m.Began
	m.now, m.handled = now, now
	m.wake()
	m.Began = began
	for _, name := range m.others() {
		m.Handle(now, HeardBy{name, true, now})
		m.Handle(now, Received{name, State{Life: m.Known[name].Life, Number: 1 << 40, Knowledge: m.fingerprint}})
	}
	return m
}
