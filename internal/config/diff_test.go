package config

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parsed(t *testing.T, src string) *Config {
	t.Helper()
	c, err := ParseFor("vm", "lb.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const before = `cluster:
  name: web
  seed: 9f6b0dd1b6b0a1a56f1e63d2b4c4a1c3f0a7b9d8e2c1f4a3b5d6e7f8091a2b3c
  nodes:
    - {name: vm, addresses: 192.0.2.11}
    - {name: n2, addresses: 192.0.2.12, mac: 02:00:00:00:00:12}
    - {name: n3, addresses: 192.0.2.13}
interface: eth0
vips: [{address: 192.0.2.80}, {address: 192.0.2.81, other: drop}]
services:
  - {name: web, vips: 192.0.2.80, ports: [80, 443]}
  - {name: dns, vips: 192.0.2.81, ports: 53, protocol: udp}
`

func TestDiffOfAFileWithItselfIsEmpty(t *testing.T) {
	if changes := Diff(parsed(t, before), parsed(t, before)); len(changes) != 0 {
		t.Error(changes)
	}
}

// Things in lists go by their names: another order is no change, and one less is one less.
func TestDiffIsByNameNotByIndex(t *testing.T) {
	after := `cluster:
  name: web
  seed: 9f6b0dd1b6b0a1a56f1e63d2b4c4a1c3f0a7b9d8e2c1f4a3b5d6e7f8091a2b3c
  nodes:
    - {name: n3, addresses: 192.0.2.13, weight: 50}
    - {name: vm, addresses: 192.0.2.11}
interface: eth0
attach: generic
vips: [{address: 192.0.2.81, other: drop}, {address: 192.0.2.80, mac: group}]
services:
  - {name: dns, vips: 192.0.2.81, ports: 53, protocol: udp, hash: source-net}
  - {name: web, vips: [192.0.2.81, 192.0.2.80], ports: [80, 443, 81]}
`
	want := []Change{
		{"attach", "auto", "generic"},
		{"nodes[n2].addresses", `"192.0.2.12"`, ""},
		{"nodes[n2].mac", "02:00:00:00:00:12", ""},
		{"nodes[n2].weight", "100", ""},
		{"nodes[n3].weight", "100", "50"},
		{"services[dns].hash", "source+port", "source-net/24,64"},
		{"services[web].ports", `"80", "443"`, `"80-81", "443"`},
		{"services[web].vips", `"192.0.2.80"`, `"192.0.2.81", "192.0.2.80"`},
		{"vips[192.0.2.80].mac", "multicast", "group"},
	}
	if diff := cmp.Diff(want, Diff(parsed(t, before), parsed(t, after))); diff != "" {
		t.Error(diff)
	}
}

func TestDiffTellsThatTheSeedChangedButNotTheSeed(t *testing.T) {
	old, fresh := parsed(t, before), parsed(t, before)
	fresh.Seed[31] ^= 1
	changes := Diff(old, fresh)
	if len(changes) != 1 || changes[0].Path != "cluster.seed" || changes[0].Old == changes[0].New {
		t.Fatalf("got %v, want one change of cluster.seed", changes)
	}
	text, err := json.Marshal(changes)
	if err != nil {
		t.Fatal(err)
	}
	seed := hex.EncodeToString(old.Seed[:])
	for i := range len(seed) - 4 {
		if strings.Contains(string(text), seed[i:i+5]) {
			t.Errorf("%s shows %q of the seed %s", text, seed[i:i+5], seed)
		}
	}
}
