package cli

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
)

// The files of testdata: invalid.yaml has two mistakes, changed.yaml two differences to valid.yaml.
const (
	validFile   = "testdata/valid.yaml"
	invalidFile = "testdata/invalid.yaml"
	changedFile = "testdata/changed.yaml"
)

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAValidFileIsOkWithoutADaemon(t *testing.T) {
	got := lbctl(t, nil, "config", "check", validFile)
	if want := (run{exitOK, validFile + ": ok\n", ""}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestEveryErrorOfAFileIsShownWithItsLine(t *testing.T) {
	got := lbctl(t, nil, "config", "check", invalidFile)
	if got.Code != exitConfig || got.Stdout != "" {
		t.Errorf("code %d, stdout %q", got.Code, got.Stdout)
	}
	golden(t, "config-check-stderr", got.Stderr)

	got = lbctl(t, nil, "config", "check", invalidFile, "-o", "json")
	if got.Code != exitConfig {
		t.Errorf("code %d", got.Code)
	}
	golden(t, "config-check-json", got.Stdout)
}

func TestADashIsTheStandardInput(t *testing.T) {
	got := lbctl(t, func(e *Env) { e.Stdin = bytes.NewReader(read(t, invalidFile)) }, "config", "check", "-")
	if got.Code != exitConfig || !strings.Contains(got.Stderr, "\n-:9:") {
		t.Errorf("%+v", got)
	}
}

// configDaemon has validFile in force.
func configDaemon(t *testing.T) (socket string) {
	t.Helper()
	refused := read(t, invalidFile)
	inForce, err := config.ParseFor("n1", validFile, read(t, validFile))
	if err != nil {
		t.Fatal(err)
	}
	return fakeDaemon(t, control.Daemon{
		ConfigYAML: func(seed bool) []byte {
			if seed {
				return inForce.YAML()
			}
			return inForce.PublicYAML()
		},
		ConfigDiff: func(candidate []byte) (control.ConfigDiff, error) {
			next, err := config.ParseFor("n1", "candidate", candidate)
			if err != nil {
				return control.ConfigDiff{}, err
			}
			diff := control.ConfigDiff{Changes: config.Diff(inForce, next)}
			if len(diff.Changes) > 0 {
				diff.Alike, diff.Refused = true, "cluster.membership changed: restart lbd to use it"
				diff.Moves = []control.SlotMoves{{Service: "web", Slots: 655, Share: 0.009994}}
				diff.Flows = []control.FlowMoves{
					{Service: "web", Why: "who is where is remembered while slots move"},
					{Service: "dns", Known: 12, Moved: 3, Share: 0.75, Why: "another hash finds other slots"},
					{Service: "old", Known: 2, Moved: 2, Uncounted: true, Why: "the file has no such service"},
				}
			}
			return diff, nil
		},
		Reload: func(context.Context) (control.ReloadResult, error) {
			_, err := config.ParseFor("n1", "/etc/lb/lb.yaml", refused)
			return control.ReloadResult{}, fmt.Errorf("reload: %w", err)
		},
	})
}

func TestDiffShowsWhatAFileWouldChange(t *testing.T) {
	socket := configDaemon(t)
	for _, format := range formatNames() {
		got := lbctl(t, nil, "config", "diff", changedFile, "--socket", socket, "-o", format)
		if got.Code != exitOK || got.Stderr != "" {
			t.Errorf("%s: code %d, stderr %q", format, got.Code, got.Stderr)
		}
		golden(t, "config-diff-"+format, got.Stdout)
	}
	got := lbctl(t, nil, "config", "diff", validFile, "--socket", socket)
	if want := (run{exitOK, "no changes\n", ""}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestErrorsThatTheDaemonFindsLookTheSame(t *testing.T) {
	socket := configDaemon(t)
	want := lbctl(t, nil, "config", "check", invalidFile)
	if got := lbctl(t, nil, "config", "diff", invalidFile, "--socket", socket); got != want {
		t.Errorf("diff: %+v, want %+v", got, want)
	}
	want.Stderr = strings.ReplaceAll(want.Stderr, "\n"+invalidFile, "\n/etc/lb/lb.yaml")
	if got := lbctl(t, nil, "config", "reload", "--socket", socket); got != want {
		t.Errorf("reload: %+v, want %+v", got, want)
	}
}

func TestReloadShowsWhatChanged(t *testing.T) {
	results := []control.ReloadResult{
		{Generation: 13, Changes: []config.Change{{Path: "nodes[n2].weight", Old: "1", New: "3"}}},
		{
			Generation: 13, Changes: []config.Change{{Path: "services[web].source-nat", New: "true"}},
			Flows: []control.FlowMoves{{Service: "web", Known: 3, Moved: 2, Share: 1, Why: "source-nat false becomes true"}},
		},
		{Generation: 13},
	}
	socket := fakeDaemon(t, control.Daemon{Reload: func(context.Context) (control.ReloadResult, error) {
		if len(results) == 0 {
			return control.ReloadResult{}, errors.New("apply: eth0: no such interface")
		}
		result := results[0]
		results = results[1:]
		return result, nil
	}})
	for _, want := range []run{
		{exitOK, "~ nodes[n2].weight: 1 -> 3\ngeneration 13\n", ""},
		{exitOK, "+ services[web].source-nat: true\nbroken: service web: 2 of 3 open flows that this node knows moved and broke; " +
			"100.0 % of those that it does not know moved and broke: source-nat false becomes true\ngeneration 13\n", ""},
		{exitOK, "no changes\ngeneration 13\n", ""},
		{exitFailed, "", "lbctl: apply: eth0: no such interface\n"},
	} {
		if got := lbctl(t, nil, "config", "reload", "--socket", socket); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

func TestShowPrintsTheConfigurationInForce(t *testing.T) {
	socket := configDaemon(t)
	got := lbctl(t, nil, "config", "show", "--show-seed", "--socket", socket)
	parsed, err := config.ParseFor("n1", "lb.yaml", []byte(got.Stdout))
	if err != nil {
		t.Fatal(err)
	}
	if string(parsed.YAML()) != got.Stdout {
		t.Error("what is shown is not what is in force")
	}
	hidden := lbctl(t, nil, "config", "show", "--socket", socket)
	seed := []byte(hex.EncodeToString(parsed.Seed[:]))
	if hidden.Stdout != string(bytes.ReplaceAll(parsed.YAML(), seed, []byte("<hidden>"))) {
		t.Errorf("without --show-seed:\n%s", hidden.Stdout)
	}
	golden(t, "config-show-json", lbctl(t, nil, "config", "show", "--socket", socket, "-o", "json").Stdout)
}
