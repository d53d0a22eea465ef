package cluster_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

func TestARotationIsThreeStepsThatCanBeRepeated(t *testing.T) {
	old, fresh, other := cluster.GenerateKey(), cluster.GenerateKey(), cluster.GenerateKey()
	path := filepath.Join(t.TempDir(), "cluster.key")
	ring := cluster.Ring{Keys: []cluster.Key{old}}
	for _, step := range []struct {
		name string
		do   func(cluster.Ring) (cluster.Ring, error)
		want cluster.Ring
	}{
		{"add", func(r cluster.Ring) (cluster.Ring, error) { return r.Add(fresh) }, cluster.Ring{Keys: []cluster.Key{old, fresh}, Next: fresh.ID()}},
		{"use", func(r cluster.Ring) (cluster.Ring, error) { return r.Use(fresh.ID()) }, cluster.Ring{Keys: []cluster.Key{fresh, old}, Next: fresh.ID()}},
		{"only", func(r cluster.Ring) (cluster.Ring, error) { return r.Only(fresh.ID()) }, cluster.Ring{Keys: []cluster.Key{fresh}}},
	} {
		for range 2 {
			var err error
			if ring, err = step.do(ring); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			if err := ring.Write(path); err != nil {
				t.Fatal(err)
			}
			read, err := cluster.ReadRing(path)
			if diff := cmp.Diff(step.want, read); diff != "" || err != nil {
				t.Errorf("%s: %v\n%s", step.name, err, diff)
			}
			if step.name == "add" {
				if _, err := ring.Add(other); err == nil {
					t.Error("a third key was added")
				}
				if _, err := ring.Only(fresh.ID()); err == nil {
					t.Error("a key that is in use was dropped")
				}
				if same, err := ring.Use(old.ID()); err != nil || !same.Equal(ring) {
					t.Error("to use the key that is in use changed something")
				}
			}
			if step.name == "use" {
				if _, err := ring.Use(old.ID()); err == nil {
					t.Error("a key that no rotation is about was used")
				}
			}
		}
	}
	if _, err := ring.Use(old.ID()); err == nil {
		t.Error("a key that was dropped was used")
	}
}

// To go back to the old key is a rotation to it.
func TestARotationIsTakenBackFromEveryStep(t *testing.T) {
	old, fresh := cluster.GenerateKey(), cluster.GenerateKey()
	for _, ring := range []cluster.Ring{
		{Keys: []cluster.Key{old}},
		{Keys: []cluster.Key{old, fresh}, Next: fresh.ID()},
		{Keys: []cluster.Key{fresh, old}, Next: fresh.ID()},
	} {
		back, err := ring.Add(old)
		if err == nil {
			back, err = back.Use(old.ID())
		}
		if err == nil {
			back, err = back.Only(old.ID())
		}
		if diff := cmp.Diff(cluster.Ring{Keys: []cluster.Key{old}}, back); diff != "" || err != nil {
			t.Errorf("from %v: %v\n%s", ring.IDs(), err, diff)
		}
	}
}

func TestAKeyFileOfWhichTheNextKeyWasTakenOutHasNoRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.key")
	key := cluster.GenerateKey()
	text := "# rotating to " + cluster.GenerateKey().ID().String() + "\n# rotating to nothing\n" + key.Text() + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ring, err := cluster.ReadRing(path)
	if diff := cmp.Diff(cluster.Ring{Keys: []cluster.Key{key}}, ring); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestAKeyIsOpenedByItsBoxAlone(t *testing.T) {
	box, err := cluster.NewBox()
	if err != nil {
		t.Fatal(err)
	}
	other, err := cluster.NewBox()
	if err != nil {
		t.Fatal(err)
	}
	key := cluster.GenerateKey()
	sealed, err := cluster.SealKey(box.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := box.OpenKey(sealed); got != key || err != nil {
		t.Errorf("another key came out, %v", err)
	}
	if _, err := other.OpenKey(sealed); err == nil {
		t.Error("another box opened it")
	}
	for i := range sealed {
		broken := slices.Clone(sealed)
		broken[i] ^= 1
		if _, err := box.OpenKey(broken); err == nil {
			t.Errorf("byte %d of the sealed key does not matter", i)
		}
		if _, err := box.OpenKey(sealed[:i]); err == nil {
			t.Errorf("%d bytes of the sealed key are enough", i)
		}
	}
	again, err := cluster.SealKey(box.Public(), key)
	if err != nil || slices.Equal(again, sealed) {
		t.Errorf("sealed alike twice, %v", err)
	}
	if _, err := cluster.SealKey(make([]byte, 32), key); err == nil { // everybody knows what it shares
		t.Error("sealed for the point of order one")
	}
}
