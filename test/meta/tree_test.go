// Package meta tests the tree itself: layers, comments, layout, licenses.
package meta

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// root is where go test runs this package from, seen from the top of the repository.
const root = "../.."

// foreign holds directories whose content is built, fetched or copied from elsewhere.
var foreign = []string{".git", ".cache", "bin", "bpf/vendor"}

// filesWith returns the slash-separated paths, from the top of the repository, of our own files
// that have one of the extensions.
func filesWith(t *testing.T, extensions ...string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		switch {
		case entry.IsDir() && slices.Contains(foreign, name):
			return filepath.SkipDir
		case entry.Type().IsRegular() && slices.Contains(extensions, filepath.Ext(name)):
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("no file with %q below %s", extensions, root)
	}
	return files
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}
