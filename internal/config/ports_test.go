package config

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/lb"
)

func TestPortsAreSortedAndNeighboursJoined(t *testing.T) {
	tests := map[string][]lb.PortRange{
		"80":                     {{First: 80, Last: 80}},
		`"80"`:                   {{First: 80, Last: 80}},
		"8000-8099":              {{First: 8000, Last: 8099}},
		`"8000 - 8099"`:          {{First: 8000, Last: 8099}},
		"80-80":                  {{First: 80, Last: 80}},
		"all":                    {lb.AllPorts},
		"[all]":                  {lb.AllPorts},
		"[443, 80]":              {{First: 80, Last: 80}, {First: 443, Last: 443}},
		"[81, 80]":               {{First: 80, Last: 81}},
		"[82-90, 80, 81, 91]":    {{First: 80, Last: 91}},
		"[80, 82]":               {{First: 80, Last: 80}, {First: 82, Last: 82}},
		"[1-32767, 32768-65535]": {{First: 1, Last: 65535}},
		"[65534, 65535]":         {{First: 65534, Last: 65535}},
	}
	for ports, want := range tests {
		c := parsed(t, small+"vips: [{address: 192.0.2.80}]\nservices: [{name: web, vips: 192.0.2.80, ports: "+ports+"}]\n")
		if diff := cmp.Diff(want, c.Services[0].Ports); diff != "" {
			t.Errorf("%s: %s", ports, diff)
		}
	}
}

func TestProtocolAnyHasAllPorts(t *testing.T) {
	for _, ports := range []string{"", ", ports: all", ", ports: [all]", ", ports: ~"} {
		c := parsed(t, small+"vips: [{address: 192.0.2.80}]\nservices: [{name: rest, vips: 192.0.2.80, protocol: any"+ports+"}]\n")
		if diff := cmp.Diff([]lb.PortRange{lb.AllPorts}, c.Services[0].Ports); diff != "" {
			t.Errorf("%q: %s", ports, diff)
		}
	}
}

// "all" is what the others leave, and tcp and udp have ports each of their own.
func TestServicesThatShareAVIP(t *testing.T) {
	parsed(t, small+`vips: [{address: 192.0.2.80}, {address: 192.0.2.81}]
services:
  - {name: rest, vips: [192.0.2.80, 192.0.2.81], ports: all}
  - {name: web, vips: 192.0.2.80, ports: [80, 443]}
  - {name: web-81, vips: 192.0.2.81, ports: [80, 443]}
  - {name: http3, vips: 192.0.2.80, protocol: udp, ports: 443}
  - {name: between, vips: 192.0.2.80, ports: 81-442}
  - {name: any, vips: 192.0.2.80, protocol: any}
`)
}

// A short range that stands after a long one must not hide the long one from what follows.
func TestALongRangeIsSeenBehindAShortOne(t *testing.T) {
	_, err := ParseFor("vm", "lb.yaml", []byte(small+`vips: [{address: 192.0.2.80}]
services:
  - {name: long, vips: 192.0.2.80, ports: [1-1000, 2000]}
  - {name: short, vips: 192.0.2.80, ports: 1001}
  - {name: late, vips: 192.0.2.80, ports: 1500-2500}
  - {name: inside, vips: 192.0.2.80, ports: 900}
`))
	var got []string
	for _, e := range found(t, err) {
		got = append(got, e.Path+": "+e.Message)
	}
	want := []string{
		`services[2].ports: service "long" takes tcp port 2000 of 192.0.2.80 already`,
		`services[3].ports: service "long" takes tcp ports 1-1000 of 192.0.2.80 already`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAThousandServicesMayShareAListByAlias(t *testing.T) {
	src := small + "vips: [{address: 192.0.2.80}]\nservices:\n  - {name: s0, vips: &v [192.0.2.80], ports: 1000}\n"
	for i := 1; i < lb.MaxServices; i++ {
		src += fmt.Sprintf("  - {name: s%d, vips: *v, ports: %d}\n", i, 1000+i)
	}
	c, err := ParseFor("vm", "lb.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Services) != lb.MaxServices {
		t.Errorf("%d services, want %d", len(c.Services), lb.MaxServices)
	}
}
