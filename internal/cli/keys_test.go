package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/control"
)

func TestKeysGenerateMakesAKeyThatLbdReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.key")
	if r := lbctl(t, nil, "keys", "generate", "--out", path); r != (run{}) {
		t.Errorf("%+v", r)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	keys, err := cluster.ReadKeys(path)
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}

	printed := lbctl(t, nil, "keys", "generate")
	fresh, err := cluster.ParseKeys(strings.NewReader(printed.Stdout))
	if printed.Code != exitOK || err != nil || len(fresh) != 1 || fresh[0] == keys[0] {
		t.Errorf("code %d, %d keys, %v", printed.Code, len(fresh), err)
	}
}

func TestKeysGenerateReplacesNoFile(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "cluster.key"), filepath.Join(dir, "link")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("none", link); err != nil { // open(2) follows links, but not with O_EXCL
		t.Fatal(err)
	}
	for _, name := range []string{path, link} {
		want := run{Code: exitFailed, Stderr: "lbctl: " + name + " is there already, and is not replaced\n"}
		if got := lbctl(t, nil, "keys", "generate", "--out", name); got != want {
			t.Errorf("%+v", got)
		}
	}
	if text, err := os.ReadFile(path); string(text) != "precious" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if left, err := os.ReadDir(dir); len(left) != 2 || err != nil {
		t.Errorf("%v, %v", left, err)
	}
}

func TestKeysRotateTellsHowFarEachNodeIs(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   []string
		answer control.KeyRotation
		want   run
	}{
		{"done", nil, control.KeyRotation{Key: "0011223344556677", Done: true, Nodes: []control.KeyHolder{{Node: "n1", Step: "alone"}, {Node: "n2", Step: "alone"}}},
			run{Stdout: "NODE  KEY 0011223344556677  WHY\nn1    alone\nn2    alone\n"}},
		{"stands still", nil, control.KeyRotation{Key: "0011223344556677", Nodes: []control.KeyHolder{
			{Node: "n1", Step: "added"}, {Node: "n2", Step: "missing", Why: "key file: no space left"}, {Node: "n3", Step: "missing", Why: "down"}}},
			run{exitUnfinished, "NODE  KEY 0011223344556677  WHY\nn1    added\nn2    missing               key file: no space left\nn3    missing               down\n",
				"lbctl: not finished: the new key is not everywhere, and the old one stays; waiting for n2 (key file: no space left), n3 (down); then run this again\n"}},
		{"not begun", []string{"--back"}, control.KeyRotation{Nodes: []control.KeyHolder{{Node: "n2", Step: "unknown", Why: "down"}}},
			run{exitUnfinished, "NODE  KEY      WHY\nn2    unknown  down\n", "lbctl: not finished: nothing was changed; waiting for n2 (down); then run this again\n"}},
	} {
		socket := fakeDaemon(t, control.Daemon{Keys: func(_ context.Context, r control.KeysRequest) (control.KeyRotation, error) {
			if r.Back != (c.args != nil) {
				return c.answer, errors.New("the request is another one")
			}
			return c.answer, nil
		}})
		if got := lbctl(t, nil, append([]string{"keys", "rotate", "--socket", socket}, c.args...)...); got != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}
