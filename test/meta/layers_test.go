package meta

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/lbctl/lbctl/"

// kit is the layer of the test kits: they may use everything, and only tests may use them.
const kit = 10

// layers says how high each package stands. A package imports only what stands lower.
var layers = map[string]int{
	"internal/lb":         0,
	"internal/rendezvous": 0,
	"internal/maglev":     0,
	"internal/flowhash":   0,
	"internal/config":     1,
	"internal/desired":    1,
	"internal/ownership":  1,
	"internal/recipe":     1,
	"internal/balance":    1,
	"internal/health":     1,
	"internal/announce":   2,
	"internal/datapath":   2,
	"internal/netconf":    2,
	"internal/firewall":   2,
	"internal/netmon":     2,
	"internal/doctor":     2,
	"internal/nexthop":    2,
	"internal/passage":    2,
	"internal/netlab":     2,
	"internal/cluster":    2,
	"internal/heartbeat":  2,
	"internal/store":      2,
	"internal/sockets":    2,
	"internal/probe":      2,
	"internal/program":    2,
	"internal/reconcile":  3,
	"internal/control":    3,
	"internal/member":     3,
	"internal/hooks":      3,
	"internal/daemon":     4,
	"internal/cli":        4,
	"internal/demo":       4,
	"cmd/lbd":             5,
	"cmd/lbctl":           5,

	"internal/nettest":    kit,
	"internal/packettest": kit,
}

// beside lists the arrows between packages of one layer, which the table alone would refuse.
var beside = map[string][]string{
	"internal/rendezvous": {"internal/lb"},
	"internal/flowhash":   {"internal/lb"},
	"internal/desired":    {"internal/config"},
	"internal/probe":      {"internal/program"},
	"internal/cli":        {"internal/demo"},
}

// commandsUse is all that a command may import: anything else belongs into a package that tests
// can reach.
var commandsUse = []string{"internal/daemon", "internal/cli", "internal/demo", "internal/control"}

type goPackage struct {
	ImportPath string
	GoFiles    []string
	Imports    []string
}

func TestArrowsPointDown(t *testing.T) {
	for _, pkg := range goPackages(t) {
		from := strings.TrimPrefix(pkg.ImportPath, module)
		if strings.HasPrefix(from, "test/") {
			if len(pkg.GoFiles) > 0 {
				t.Errorf("%s has files that are no tests: %q", from, pkg.GoFiles)
			}
			continue
		}
		if _, ok := layers[from]; !ok {
			t.Errorf("%s has no layer: add it to the table", from)
			continue
		}
		for _, path := range pkg.Imports {
			if to, ours := strings.CutPrefix(path, module); ours && !mayImport(from, to) {
				t.Errorf("%s (layer %d) imports %s (layer %d)", from, layers[from], to, layers[to])
			}
		}
	}
}

func mayImport(from, to string) bool {
	switch {
	case layers[from] == kit:
		return true
	case layers[to] == kit:
		return false
	case strings.HasPrefix(from, "cmd/"):
		return slices.Contains(commandsUse, to)
	}
	return layers[to] < layers[from] || slices.Contains(beside[from], to)
}

func goPackages(t *testing.T) []goPackage {
	t.Helper()
	list := exec.Command("go", "list", "-json=ImportPath,GoFiles,Imports", "./...")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for stream := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg goPackage
		err := stream.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatalf("decode go list: %v", err)
		}
		packages = append(packages, pkg)
	}
}
