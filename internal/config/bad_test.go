package config

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the messages of testdata/bad anew")

// freshSeed is the one part of a message that is never the same.
var freshSeed = regexp.MustCompile(`seed: [0-9a-f]{64}`)

// found is the errors of a file that is refused.
func found(t testing.TB, err error) Errors {
	t.Helper()
	errs, ok := errors.AsType[Errors](err)
	if !ok || len(errs) == 0 {
		t.Fatalf("got %v, want Errors", err)
	}
	return errs
}

// described is what lbctl shows of an error: the line, and the excerpt below it.
func described(t testing.TB, err error) string {
	t.Helper()
	var b strings.Builder
	for _, e := range found(t, err) {
		fmt.Fprintf(&b, "%s\n%s\n", e, e.Excerpt)
	}
	return freshSeed.ReplaceAllString(b.String(), "seed: (fresh)")
}

// badFiles are the files of testdata/bad, and those that are too large to be kept.
func badFiles(t testing.TB) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for name, src := range largeFiles() {
		files[name] = []byte(src)
	}
	paths, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimSuffix(filepath.Base(path), ".yaml")] = src
	}
	return files
}

// list is n items, made of a format with one number.
func list(n int, format string) string {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf(format, i+1)
	}
	return strings.Join(items, ", ")
}

// small is a valid file in one line each, for what is added to it.
const small = `cluster: {name: web, seed: 9f6b0dd1b6b0a1a56f1e63d2b4c4a1c3f0a7b9d8e2c1f4a3b5d6e7f8091a2b3c, nodes: [{name: vm, addresses: 192.0.2.1}]}
interface: eth0
`

func largeFiles() map[string]string {
	thousand := "vips: [" + list(1000, `{address: "2001:db8::%x"}`) + "]\n"
	return map[string]string{
		"large-file":    small + strings.Repeat("# nothing\n", maxBytes/10),
		"large-aliases": "vips: [&vip {address: 192.0.2.80}, " + strings.Repeat("*vip, ", maxAliases+1) + "]\n",
		"large-bomb": "a: &a [x, x, x, x, x, x, x, x, x, x]\n" +
			"b: &b [" + list(10, "*a # %d\n") + "]\nc: &c [" + list(10, "*b # %d\n") + "]\n" +
			"nodes: [" + list(90, "*c # %d\n") + "]\n",
		"large-depth":               strings.Repeat("[", maxBytes),
		"large-nesting":             "vips: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "\n",
		"large-masquerade":          small + "masquerade: [" + list(65, "{from: 10.0.%d.0/24, out: eth0}") + "]\n",
		"large-masquerade-networks": small + "masquerade: [{from: [" + list(65, "10.0.%d.0/24") + "], out: eth0}]\n",
		"large-nodes":               "cluster:\n  name: web\n  seed: 9f6b0dd1b6b0a1a56f1e63d2b4c4a1c3f0a7b9d8e2c1f4a3b5d6e7f8091a2b3c\n  nodes: [" + list(65, "{name: n%[1]d, addresses: 192.0.2.%[1]d}") + "]\n",
		"large-list":                small + "vips: [" + strings.Repeat("1, ", 4097) + "]\n",
		"large-vips":                small + "vips: [" + list(1001, `{address: "2001:db8::%x"}`) + "]\n",
		"large-ports":               small + thousand + "services:\n  - {name: web, vips: 2001:db8::1, ports: [" + list(1025, "%d") + "]}\n",
		"large-services":            small + thousand + "services:\n  - {name: web, vips: &all [" + list(1000, `"2001:db8::%x"`) + "], ports: 80}\n  - {name: shop, vips: *all, ports: 81}\n",
		"large-patterns": strings.Replace(small, "]}\n", "], membership: {insecure: true}}\n", 1) + "vips: [{address: 192.0.2.80}]\nservices:\n" +
			strings.ReplaceAll(list(65, "  - {name: s%[1]d, vips: 192.0.2.80, ports: %[1]d, checks: [{type: http, body: b%[1]d}]}\n"), "\n, ", "\n"),
		"large-backends": small + "vips: [{address: 192.0.2.80}]\nservices:\n  - {name: web, vips: 192.0.2.80, ports: 80, forward: dr, backends: [" + list(1001, `"2001:db8::%x"`) + "]}\n",
		"large-replies":  small + "vips: [{address: 192.0.2.80}]\nservices:\n  - {name: web, vips: 192.0.2.80, ports: 1-4096, forward: nat, backends: [" + list(17, `198.51.100.%d`) + "]}\n",
		"large-servers": small + "vips: [{address: 192.0.2.80}]\nservices:\n  - {name: web, vips: 192.0.2.80, ports: 80, forward: dr, backends: &b [" + list(1000, `"2001:db8::%x"`) + "]}\n" +
			strings.ReplaceAll(list(65, "  - {name: s%[1]d, vips: 192.0.2.80, ports: 1%03[1]d, forward: dr, backends: *b}\n"), "\n, ", "\n"),
		"large-errors": small + "vips:\n" + strings.ReplaceAll(list(200, "  - %d\n"), ", ", ""),
	}
}

func TestEveryBadFileHasItsMessages(t *testing.T) {
	files := badFiles(t)
	for name, src := range files {
		t.Run(name, func(t *testing.T) {
			_, err := ParseFor("vm", name+".yaml", src)
			if err == nil {
				t.Fatal("this file is valid")
			}
			got, golden := described(t, err), filepath.Join("testdata/bad", name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
	texts, err := filepath.Glob("testdata/bad/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		if name := strings.TrimSuffix(filepath.Base(text), ".txt"); files[name] == nil {
			t.Errorf("%s has no file that it is about", text)
		}
	}
}

// verb matches what fmt puts in a place of a format.
var verb = regexp.MustCompile(`%(?:02x|[sdqU])`)

// rules finds the format of each call of reader.fail, and the places that share it.
func rules(t *testing.T) map[string][]string {
	t.Helper()
	rules := make(map[string][]string)
	for path, file := range sources(t) {
		calls(file, "fail", func(call *ast.CallExpr) {
			literal, ok := call.Args[2].(*ast.BasicLit)
			if !ok {
				t.Fatalf("%s: the format of fail is no literal", path)
			}
			format, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			rules[format] = append(rules[format], path)
		})
	}
	return rules
}

func sources(t *testing.T) map[string]*ast.File {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]*ast.File)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = file
	}
	return files
}

func calls(file *ast.File, method string, visit func(*ast.CallExpr)) {
	ast.Inspect(file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if f, ok := call.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == method {
				visit(call)
			}
		}
		return true
	})
}

func TestEveryRuleHasABadFile(t *testing.T) {
	shown := make(map[string]bool)
	for name, src := range badFiles(t) {
		_, err := ParseFor("vm", name+".yaml", src)
		for _, e := range found(t, err) {
			shown[e.Message] = true
		}
	}
	all := rules(t)
	if len(all) < 40 {
		t.Errorf("found only %d rules", len(all))
	}
	for _, format := range slices.Sorted(maps.Keys(all)) {
		parts := verb.Split(format, -1)
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		message := regexp.MustCompile("^(?s:" + strings.Join(parts, ".*") + ")$")
		if !slices.ContainsFunc(slices.Collect(maps.Keys(shown)), message.MatchString) {
			t.Errorf("%v: no file of testdata/bad has the message %q", all[format], format)
		}
	}
}

// What an excerpt shows is written to logs.
func TestNoMessageShowsASeed(t *testing.T) {
	secrets := []string{"9f6b0dd1b6b0a1a5", "n2sN0bawoaVvHmPS"}
	for name, src := range badFiles(t) {
		_, err := ParseFor("vm", name+".yaml", src)
		for _, secret := range secrets {
			if strings.Contains(described(t, err), secret) {
				t.Errorf("%s shows the seed:\n%s", name, described(t, err))
			}
		}
	}
}

// A file within its size must not keep a machine busy, whatever it says. Each of these takes less than
// a second of the processor; without the limits, minutes. The race detector is what lies between.
func TestNoFileTakesLong(t *testing.T) {
	vips := "vips: [" + list(1000, `{address: "2001:db8::%x"}`) + "]\n"
	var odd []string
	for p := 1; p < 2*maxRanges; p += 2 {
		odd = append(odd, strconv.Itoa(p))
	}
	files := map[string]string{
		"one list of ports for many services": small + vips + "services:\n  - {name: s, vips: 2001:db8::1, ports: &p [" + strings.Join(odd, ", ") + "]}\n" +
			strings.ReplaceAll(list(90, "  - {name: s%d, vips: 2001:db8::1, ports: *p}\n"), "\n, ", "\n"),
		"one list of ports for many VIPs": small + vips + "services:\n  - {name: s, vips: [" + list(1000, `"2001:db8::%x"`) + "], ports: [" + strings.Join(odd, ", ") + "]}\n",
		"unknown VIPs":                    small + vips + "services:\n  - &s {name: s, ports: 1, vips: [" + list(40000, `"2001:db8::1:%x"`) + "]}\n" + strings.Repeat("  - *s\n", maxAliases),
		"the same addresses of many nodes": "cluster:\n  nodes:\n    - &n {name: n, addresses: [" + list(40000, `"2001:db8::1:%x"`) + "]}\n" + strings.Repeat("    - *n\n", 60) +
			"vips: [" + list(1000, `{address: "2001:db8:1::%x"}`) + "]\n",
		"one mapping of unknown keys for many services": small + vips + "services:\n  - &s {" + list(100000, "k%d") + "}\n" + strings.Repeat("  - *s\n", maxAliases),
		"one list of all for many services": small + vips + "services:\n  - {name: s, vips: 2001:db8::1, protocol: any, ports: &p [" + strings.Repeat("all, ", 100000) + "]}\n" +
			strings.Repeat("  - {name: s, vips: 2001:db8::1, protocol: any, ports: *p}\n", 1000),
		"expressions that are large": strings.Replace(small, "]}\n", "], membership: {insecure: true}}\n", 1) + "vips: [{address: 192.0.2.80}]\nservices:\n" +
			strings.ReplaceAll(list(maxPatterns, `  - {name: s%[1]d, vips: 192.0.2.80, ports: %[1]d, checks: [{type: http, body: '(\pL{100}|\pN{%[1]d}.{100}){9}[^\PL]{900}'}]}`+"\n"), "\n, ", "\n"),
		"checks of many services": strings.Replace(small, "]}\n", "], membership: {insecure: true}}\n", 1) + vips + "services:\n  - {name: s, vips: 2001:db8::1, ports: 1, checks: &c [&a {type: http, body: '(\\pL{100}){9}', headers: {" + list(maxArguments, "h%d: v") + "}}" + strings.Repeat(", *a", maxChecks-1) + "]}\n" +
			strings.ReplaceAll(list(999, "  - {name: s%[1]d, vips: 2001:db8::1, ports: 1%04[1]d, checks: *c}\n"), "\n, ", "\n"),
		"one list of backends for many services": small + vips + "services:\n  - {name: s, vips: 2001:db8::1, ports: 1, forward: dr, backends: &b [" + list(1000, `{address: "2001:db8:1::%x", weight: 1}`) + "]}\n" +
			strings.ReplaceAll(list(999, "  - {name: s%[1]d, vips: 2001:db8::1, ports: 1%04[1]d, forward: dr, backends: *b}\n"), "\n, ", "\n"),
		"many ports of many backends with NAT": small + vips + "services:\n  - {name: s, vips: 2001:db8::1, ports: &p [" + strings.Join(odd, ", ") + "], forward: nat, backends: &b [" + list(1000, `"2001:db8:1::%x"`) + "]}\n" +
			strings.ReplaceAll(list(60, "  - {name: s%[1]d, vips: 2001:db8::1, ports: *p, forward: nat, backends: *b}\n"), "\n, ", "\n"),
		"directives":   strings.ReplaceAll(list(60000, "%%TAG !a%d! b\n"), ", ", "") + "---\n",
		"unknown keys": strings.ReplaceAll(list(100000, "k%d:\n"), ", ", ""),
		"a long word":  small + "attach: " + strings.Repeat("a", 1000000) + "\n",
		"a long line":  small + "vips: [" + strings.Repeat("1,", 500000) + "]\n",
		"deep blocks":  strings.Repeat("- ", 500000),
		"deep flows":   strings.Repeat("{a: ", 250000),
	}
	for name, src := range files {
		start := processorTime(t)
		_, err := ParseFor("vm", "lb.yaml", []byte(src))
		if took := processorTime(t) - start; took > 30*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
		if err != nil && len(err.Error()) > 100_000 {
			t.Errorf("%s: the message is %d bytes long", name, len(err.Error()))
		}
	}
}

// processorTime is what this process has used, however busy the machine is.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
