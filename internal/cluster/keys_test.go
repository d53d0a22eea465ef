package cluster_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/cluster"
)

func TestAKeyFileIsReadAsItWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.key")
	keys := []cluster.Key{cluster.GenerateKey(), cluster.GenerateKey()}
	for range 2 { // the second time it is replaced
		if err := cluster.WriteKeys(path, keys); err != nil {
			t.Fatal(err)
		}
	}
	got, err := cluster.ReadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(keys, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

func TestAKeyFileThatOthersCanReadIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.key")
	if err := cluster.WriteKeys(path, []cluster.Key{cluster.GenerateKey()}); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o602} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("key file: %s: mode %04o lets others in: chmod 600 it", path, mode)
		if _, err := cluster.ReadKeys(path); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestMistakesInAKeyFileAreNamedByLine(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for text, want := range map[string]string{
		"":                           "no key",
		"# only a comment\n\n":       "no key",
		"# first\n" + key + "\nxyz!": "line 3: not base64",
		"c2hvcnQ=":                   "line 1: 5 bytes, want 32",
		key + "\n" + key + "\n":      "line 2: the same key as before",
	} {
		if _, err := cluster.ParseKeys(strings.NewReader(text)); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestKeysDoNotShowThemselves(t *testing.T) {
	key := cluster.GenerateKey()
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(format, key); got != "cluster key" {
			t.Errorf("%s shows %s", format, got)
		}
	}
}

func TestARotationIsThreeSteps(t *testing.T) {
	old, fresh := cluster.GenerateKey(), cluster.GenerateKey()
	added, err := cluster.AddKey([]cluster.Key{old}, fresh)
	if diff := cmp.Diff([]cluster.Key{old, fresh}, added); diff != "" || err != nil {
		t.Errorf("add: %v\n%s", err, diff)
	}
	promoted, err := cluster.PromoteKey(added)
	if diff := cmp.Diff([]cluster.Key{fresh, old}, promoted); diff != "" || err != nil {
		t.Errorf("promote: %v\n%s", err, diff)
	}
	dropped, err := cluster.DropKeys(promoted)
	if diff := cmp.Diff([]cluster.Key{fresh}, dropped); diff != "" || err != nil {
		t.Errorf("drop: %v\n%s", err, diff)
	}
	if _, err := cluster.AddKey(added, fresh); err == nil {
		t.Error("the same key was added twice")
	}
	if _, err := cluster.PromoteKey(dropped); err == nil {
		t.Error("the only key was promoted")
	}
	if _, err := cluster.DropKeys(dropped); err == nil {
		t.Error("the only key was dropped")
	}
}
