package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What an editor does to a file is not its content.
func TestEncodingsOfOneFileAreTheSame(t *testing.T) {
	want := parsed(t, before)
	files := map[string]string{
		"CRLF":            strings.ReplaceAll(before, "\n", "\r\n"),
		"CR":              strings.ReplaceAll(before, "\n", "\r"),
		"byte order mark": "\ufeff" + before,
		"no last newline": strings.TrimSuffix(before, "\n"),
		"document marks":  "---\n" + before + "...\n",
		"comments":        "# ä → 😀\n" + before + "# the end\n",
	}
	for name, src := range files {
		if diff := cmp.Diff(want, parsed(t, src), compare); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// A key without value, and null, say what leaving the key out says.
func TestNullIsNotGiven(t *testing.T) {
	want := parsed(t, small+"vips: [{address: 192.0.2.80}]\n")
	got := parsed(t, small+`attach: ~
shutdown: null
drops:
vips: [{address: 192.0.2.80, interface: ~, announce: ~, mac: ~, other: ~}]
services:
`)
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Error(diff)
	}
}

// A node may join its cluster before there is a VIP.
func TestAFileMayHaveNoVIPs(t *testing.T) {
	for _, src := range []string{"", "vips: []\n", "vips: []\nservices: []\n"} {
		c := parsed(t, small+src)
		if len(c.VIPs) != 0 || len(c.Services) != 0 {
			t.Errorf("%q: got %v, %v", src, c.VIPs, c.Services)
		}
	}
}

// YAML has opinions about 1, true and no; a name is its letters.
func TestNamesAreTheTextThatStandsThere(t *testing.T) {
	for _, name := range []string{"1", "0x10", "010", "true", "no", "1e3", "2001-01-01", `"null"`} {
		src := strings.NewReplacer("name: web", "name: "+name, "name: vm", "name: "+name).Replace(small)
		bare := strings.Trim(name, `"`)
		c, err := ParseFor(bare, "lb.yaml", []byte(src))
		if err != nil {
			t.Error(err)
			continue
		}
		if c.ClusterName != bare || c.Node != bare {
			t.Errorf("%s: got %q and node %q", name, c.ClusterName, c.Node)
		}
		again, err := ParseFor("other", "effective.yaml", c.YAML())
		if err != nil {
			t.Errorf("%s: %v in:\n%s", name, err, c.YAML())
		} else if diff := cmp.Diff(c, again, compare); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestAnAliasIsWhatItStandsFor(t *testing.T) {
	want := parsed(t, before)
	src := strings.NewReplacer("ports: [80, 443]", "ports: &p [80, 443]", "ports: 53, protocol: udp", "ports: *p, protocol: udp").Replace(before)
	got := parsed(t, src)
	if diff := cmp.Diff(want.Services[0].Ports, got.Services[1].Ports); diff != "" {
		t.Error(diff)
	}
}

// The order of what was found in one place is the order it was looked for; no map decides it.
func TestMessagesAreTheSameEachTime(t *testing.T) {
	src := []byte(`{clustre: 1, vip: 2, service: 3, cluster: {nam: 4, nodez: 5}, drops: {x: 1, y: 2}}`)
	_, first := ParseFor("vm", "lb.yaml", src)
	for range 50 {
		_, err := ParseFor("vm", "lb.yaml", src)
		if diff := cmp.Diff(described(t, first), described(t, err)); diff != "" {
			t.Fatal(diff)
		}
	}
}
