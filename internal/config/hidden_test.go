package config

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheSeedIsHiddenAndWhatIsShownComparesAsBefore(t *testing.T) {
	text, err := os.ReadFile("../../deploy/lb.yaml")
	if err != nil {
		t.Fatal(err)
	}
	inForce, err := ParseFor("n1", "lb.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	shown := inForce.PublicYAML()
	if bytes.Contains(shown, []byte(hex.EncodeToString(inForce.Seed[:]))) || !bytes.Contains(shown, []byte(`seed: "<hidden>"`)) {
		t.Errorf("the seed is not hidden in:\n%s", shown)
	}
	again, err := inForce.ParseShown("shown", shown)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Change(nil), Diff(inForce, again)); diff != "" {
		t.Errorf("what is shown differs from what is in force:\n%s", diff)
	}
	other, err := inForce.ParseShown("lb.yaml", bytes.Replace(shown, []byte(HiddenSeed), []byte(strings.Repeat("5", 64)), 1))
	if err != nil {
		t.Fatal(err)
	}
	if changes := Diff(inForce, other); len(changes) != 1 || changes[0].Path != "cluster.seed" {
		t.Errorf("another seed: changes %v", changes)
	}
}

// A candidate is somebody's who may not see the seed: no error about it tells.
func TestNoErrorAboutAHiddenSeedTellsIt(t *testing.T) {
	var inForce Config
	inForce.Seed[0] = 0x5e
	_, err := inForce.ParseShown("candidate", []byte("cluster:\n  name: '<hidden>'\n  seed: [x, '<hidden>']\n<hidden>: 1\n"))
	if err == nil {
		t.Fatal("no error")
	}
	if seed := hex.EncodeToString(inForce.Seed[:]); strings.Contains(err.Error(), seed[:8]) {
		t.Errorf("the error tells the seed: %v", err)
	}
}
