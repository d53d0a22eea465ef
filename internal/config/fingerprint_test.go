package config

import (
	"strings"
	"testing"
)

func TestTheFingerprintCoversWhatNodesMustHaveAlike(t *testing.T) {
	member := strings.Replace(before, "interface: eth0", "  membership: {insecure: true, partition: majority}\ninterface: eth0", 1)
	want := parsed(t, member).Fingerprint()
	for _, test := range []struct {
		name, old, new string
		same           bool
	}{
		{"the order of lists", "vips: [{address: 192.0.2.80}, {address: 192.0.2.81, other: drop}]",
			"vips: [{other: drop, address: 192.0.2.81}, {address: 192.0.2.80}]", true},
		{"the order of ports", "[80, 443]", "[443, 80]", true},
		{"another node", "    - {name: n3, addresses: 192.0.2.13}\n", "", true},
		{"a weight", "addresses: 192.0.2.13", "addresses: 192.0.2.13, weight: 7", true},
		{"the policy for partitions", "partition: majority", "partition: any", true},
		{"an interface", "interface: eth0", "interface: eth1", true},
		{"where it is written down", "{insecure: true, partition: majority}", "{partition: majority, insecure: true}", true},

		{"the name of the cluster", "name: web\n  seed", "name: other\n  seed", false},
		{"the seed", "seed: 9f", "seed: 8f", false},
		{"a VIP", "192.0.2.81, other: drop", "192.0.2.81, other: pass", false},
		{"a port", "[80, 443]", "[80, 444]", false},
		{"a hash", "ports: 53", "ports: 53, hash: source", false},
		{"a protocol", "protocol: udp", "protocol: tcp", false},
		{"the heartbeat", "partition: majority", "partition: majority, heartbeat: 50ms", false},
		{"when a node is dead", "partition: majority", "partition: majority, dead-after: 600ms", false},
		{"the lease", "partition: majority", "partition: majority, lease: 100ms", false},
	} {
		changed := strings.Replace(member, test.old, test.new, 1)
		if changed == member {
			t.Fatalf("%s: nothing was changed", test.name)
		}
		if same := parsed(t, changed).Fingerprint() == want; same != test.same {
			t.Errorf("%s: the fingerprint is the same: %v, want %v", test.name, same, test.same)
		}
	}
}
