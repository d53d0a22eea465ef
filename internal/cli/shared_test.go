package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sharedFile is valid.yaml without the one line by which nodes differ.
func sharedFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "lb.yaml")
	text := bytes.Replace(read(t, validFile), []byte("  node: n1\n"), nil, 1)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A file that is the same on all nodes is checked anywhere.
func TestAFileThatNodesShareIsCheckedForOneOfThem(t *testing.T) {
	file := sharedFile(t)
	for _, c := range []struct {
		line string
		code int
		want string // the end of what is printed
	}{
		{"config check " + file + " --node n2", exitOK, file + ": ok\n"},
		{"config check " + file, exitConfig, " like this machine (say which one this machine is, or check it for one with --node)\n"},
		{"config check " + file + " --node n3", exitConfig, `cluster.node: missing, and no node is called "n3" (--node takes a name of cluster.nodes)` + "\n"},
		{"config check " + validFile + " --node n1", exitOK, validFile + ": ok\n"},
		{"config check " + validFile + " --node n2", exitUsage, "lbctl: --node n2: " + validFile + " says that it is for node n1\n"},
		{"config check ../../deploy/backend.yaml --node n1", exitUsage, "lbctl: --node n1: ../../deploy/backend.yaml is for a backend, which is no node\n"},
		{"backend recipe --file " + file + " --node n1", exitFailed, "no service forwards to backends\n"},
		{"backend recipe --node n1", exitUsage, "--node is for --file\n"},
		{"doctor --file " + file + " --node n2", exitFailed, "no service forwards to backends: there is nothing to look at; see lbctl status\n"},
		{"doctor --node n1", exitUsage, "--node is for --file\n"},
		{"doctor --vips 192.0.2.80 --file " + file, exitUsage, "lbctl: --vips is for a backend without a file: leave out --file and --node\n"},
	} {
		got := lbctl(t, nil, strings.Fields(c.line)...)
		first, _, _ := strings.Cut(got.Stdout+got.Stderr, "\n    ") // the excerpt of a file
		first += map[bool]string{true: "\n"}[!strings.HasSuffix(first, "\n")]
		if got.Code != c.code || !strings.HasSuffix(first, c.want) {
			t.Errorf("%s: code %d, want %d and %q:\n%s", c.line, got.Code, c.code, c.want, got.Stdout+got.Stderr)
		}
	}
}

func TestTheNodesOfAFileAreCompleted(t *testing.T) {
	file := sharedFile(t)
	for _, words := range [][]string{{"config", "check", file}, {"doctor", "--file", file}, {"backend", "recipe", "--file", file}} {
		got := lbctl(t, nil, append(append([]string{"__complete"}, words...), "--node", "")...)
		if !strings.HasPrefix(got.Stdout, "n1\nn2\n:") {
			t.Errorf("%q: %+v", words, got)
		}
	}
}
