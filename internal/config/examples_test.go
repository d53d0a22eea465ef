package config

import (
	"go/ast"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// validFiles are the reference and the examples, by their paths.
func validFiles(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("../../deploy/examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) < 5 {
		t.Fatalf("found only %d examples", len(paths))
	}
	files := make(map[string][]byte)
	for _, path := range append(paths, "../../deploy/lb.yaml", "../../deploy/backend.yaml") {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = src
	}
	return files
}

var nodeName = regexp.MustCompile(`- name: (\S+)`)

// firstNode is a host name with which a file without cluster.node is valid.
func firstNode(src []byte) string {
	if m := nodeName.FindSubmatch(src); m != nil {
		return string(m[1])
	}
	return "vm"
}

func TestEveryExampleIsValidAndSaysWhatItIsFor(t *testing.T) {
	for path, src := range validFiles(t) {
		want, err := ParseFor(firstNode(src), path, src)
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.HasPrefix(string(src), "# ") {
			t.Errorf("%s: does not start with a comment", path)
		}
		got, err := ParseFor("vm", path, want.YAML())
		if err != nil {
			t.Errorf("%s: the effective configuration: %v", path, err)
			continue
		}
		if diff := cmp.Diff(want, got, compare); diff != "" {
			t.Errorf("%s: the effective configuration differs:\n%s", path, diff)
		}
	}
}

func TestTheReferenceFileHasEveryKey(t *testing.T) {
	keys := make(map[string]bool)
	for _, file := range sources(t) {
		calls(file, "fields", func(call *ast.CallExpr) {
			for _, arg := range call.Args[1:] {
				key, err := strconv.Unquote(arg.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				keys[key] = true
			}
		})
	}
	if len(keys) < 20 {
		t.Errorf("found only %d keys", len(keys))
	}
	src := slices.Concat(reference(t), backendReference(t))
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !regexp.MustCompile(`(?m)^\s*(- )?(# )?` + regexp.QuoteMeta(key) + `:(\s|$)`).Match(src) {
			t.Errorf("deploy/lb.yaml and deploy/backend.yaml do not have %q", key)
		}
	}
}
