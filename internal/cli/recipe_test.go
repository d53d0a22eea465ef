package cli

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
)

const forwardsFile = "testdata/forwards.yaml"

func TestTheRecipeIsAScriptForEachServiceThatForwards(t *testing.T) {
	got := lbctl(t, nil, "backend", "recipe", "--file", forwardsFile)
	if got.Code != exitOK {
		t.Fatalf("%+v", got)
	}
	golden(t, "backend-recipe", got.Stdout)
	check := exec.Command("sh", "-n")
	check.Stdin = strings.NewReader(got.Stdout)
	if said, err := check.CombinedOutput(); err != nil {
		t.Errorf("sh does not understand it: %v: %s", err, said)
	}
	one := lbctl(t, nil, "backend", "recipe", "web", "--file", forwardsFile, "--interface", "ens3")
	if first, _, _ := strings.Cut(got.Stdout, "\n\n"); one.Stdout != strings.ReplaceAll(first, "eth0", "ens3")+"\n" {
		t.Errorf("web alone:\n%s", one.Stdout)
	}
}

func TestTheRecipeOfAServiceAsJSON(t *testing.T) {
	got := lbctl(t, nil, "backend", "recipe", "video", "--file", forwardsFile, "-o", "json")
	var recipes []serviceRecipe
	if err := json.Unmarshal([]byte(got.Stdout), &recipes); err != nil {
		t.Fatal(err)
	}
	if len(recipes) != 1 || recipes[0].Service != "video" || recipes[0].Method != "tunnel" || len(recipes[0].Steps) != 6 {
		t.Errorf("%+v", recipes)
	}
}

// lbd does not tell the seed; the recipe needs none.
func TestTheRecipeIsMadeOfWhatLbdHasInForce(t *testing.T) {
	cfg, err := config.Parse(forwardsFile, read(t, forwardsFile))
	if err != nil {
		t.Fatal(err)
	}
	socket := fakeDaemon(t, control.Daemon{ConfigYAML: func(bool) []byte { return cfg.PublicYAML() }})
	got := lbctl(t, nil, "backend", "recipe", "web", "--socket", socket)
	want := lbctl(t, nil, "backend", "recipe", "web", "--file", forwardsFile)
	if got != want || want.Code != exitOK {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestNoRecipeForWhatDoesNotForward(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"ssh", "--file", forwardsFile}, `no service "ssh" forwards to backends (have: video, web)`},
		{[]string{"--file", validFile}, "no service forwards to backends"},
		{[]string{"--file", "../../deploy/backend.yaml"}, "this machine is a backend, and lbd does all of it: ask a director, or give its file"},
	} {
		got := lbctl(t, nil, append([]string{"backend", "recipe"}, test.args...)...)
		if want := (run{exitFailed, "", "lbctl: " + test.want + "\n"}); got != want {
			t.Errorf("%q: %+v, want %+v", test.args, got, want)
		}
	}
}
