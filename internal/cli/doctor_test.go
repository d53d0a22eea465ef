package cli

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/doctor"
)

func TestTheDoctorsFindingsShowWhatIsWrongFirst(t *testing.T) {
	s := &screen{}
	findingsText(s, []doctor.Finding{
		{Check: "link", Subject: "eth0", OK: true, Found: "up"},
		{Check: "vip", Subject: "192.0.2.80", Found: "it is not on lo", Fix: []string{"ip addr replace 192.0.2.80/32 dev lo scope host"}},
	})
	golden(t, "doctor", s.text.String())
}

// Each backend of each service that forwards is looked at, as the service needs it.
func TestTheDoctorKnowsBackendsFromTheConfiguration(t *testing.T) {
	cfg, err := config.Parse(forwardsFile, read(t, forwardsFile))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range directorOf(cfg).Backends {
		got = append(got, strings.Join([]string{b.Service, b.Name, b.Method.String(), b.Encap.String()}, " "))
	}
	want := []string{
		"web 192.0.2.21 dr ip", "web 192.0.2.22 dr ip", "video 203.0.113.31 tunnel gue", "video 2001:db8:1::32 tunnel gue",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheDoctorIsToldWhatMakesSense(t *testing.T) {
	for _, test := range []struct {
		args []string
		want run
	}{
		{[]string{"--vips", "192.0.2.256"}, run{exitUsage, "", "lbctl: --vips: \"192.0.2.256\" is not an IPv4 or IPv6 address\n"}},
		{[]string{"--vips", "192.0.2.80", "--directors", "d1"}, run{exitUsage, "", "lbctl: --directors: \"d1\" is not an IPv4 or IPv6 address\n"}},
		{[]string{"--vips", "192.0.2.80", "--method", "local"}, run{exitUsage, "", "lbctl: --method \"local\": want dr, nat or tunnel\n"}},
	} {
		if got := lbctl(t, nil, append([]string{"doctor"}, test.args...)...); got != test.want {
			t.Errorf("%q: %+v, want %+v", test.args, got, test.want)
		}
	}
	if got := lbctl(t, nil, "doctor", "--file", validFile); got.Code != exitFailed || !strings.Contains(got.Stderr, "no service forwards") {
		t.Errorf("%+v", got)
	}
}

// An lbd that is gone, or does not answer, is when a doctor is wanted most.
func TestTheDoctorDoesWithoutAnLbdThatDoesNotAnswer(t *testing.T) {
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, "mute"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	const hint = "; without it, say what it is to do: --file /etc/lb/lb.yaml\n"
	for _, socket := range []string{"mute", "none"} {
		for _, line := range [][]string{{"doctor"}, {"backend", "recipe"}} {
			got := lbctl(t, nil, append(line, "--socket", filepath.Join(dir, socket))...)
			if got.Code != exitUnreachable || !strings.HasPrefix(got.Stderr, "lbctl: lbd is not reachable: ") || !strings.HasSuffix(got.Stderr, hint) {
				t.Errorf("%q: %+v, want it to end with %q", line, got, hint)
			}
		}
	}
}
