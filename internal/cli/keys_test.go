package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lbctl/lbctl/internal/cluster"
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
