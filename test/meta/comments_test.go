package meta

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"strings"
	"testing"
)

func TestEveryPackageHasADocComment(t *testing.T) {
	documented := map[string]bool{}
	for _, name := range filesWith(t, ".go") {
		file := parse(t, token.NewFileSet(), name, parser.PackageClauseOnly)
		dir := path.Dir(name)
		want := "Package " + file.Name.Name + " "
		if file.Name.Name == "main" {
			want = "Command " + path.Base(dir) + " "
		}
		documented[dir] = documented[dir] || strings.HasPrefix(file.Doc.Text(), want)
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: no file opens with a comment that starts %q or %q", dir,
				"Package NAME ", "Command NAME ")
		}
	}
}

// leftover is assembled, so that this file does not find itself.
var leftover = regexp.MustCompile(`\b(` + strings.Join([]string{"TO" + "DO", "FIX" + "ME", "X" + "XX"}, "|") + `)\b`)

func TestNoLeftovers(t *testing.T) {
	for _, name := range filesWith(t, ".go", ".c", ".h", ".sh", ".yml", ".yaml", ".md") {
		for i, line := range strings.Split(string(read(t, name)), "\n") {
			if found := leftover.FindString(line); found != "" {
				t.Errorf("%s:%d: %s", name, i+1, found)
			}
		}
	}
}

func TestInternalPackagesDoNotPrint(t *testing.T) {
	for _, name := range filesWith(t, ".go") {
		if !strings.HasPrefix(name, "internal/") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		ast.Inspect(parse(t, fset, name, 0), func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			if printed := printer(call.Fun); printed != "" {
				t.Errorf("%s: %s writes to the process's own output: take an io.Writer or a logger",
					fset.Position(call.Pos()), printed)
			}
			return true
		})
	}
}

// printer names what a call prints with, or nothing.
func printer(called ast.Expr) string {
	switch called := called.(type) {
	case *ast.Ident:
		if called.Name == "print" || called.Name == "println" {
			return called.Name
		}
	case *ast.SelectorExpr:
		pkg, ok := called.X.(*ast.Ident)
		if ok && pkg.Name == "fmt" && strings.HasPrefix(called.Sel.Name, "Print") {
			return "fmt." + called.Sel.Name
		}
	}
	return ""
}

// code matches a comment line that reads as a statement. Indented lines are examples in docs.
var code = regexp.MustCompile(`^// ?(((if|for|switch|select|func|type|\} else)\b.*)?\{|\}\)?|(defer|go) [\w.]+\(.*|\w+(, \w+)* := .+)$`)

func TestNoCodeIsCommentedOut(t *testing.T) {
	for _, name := range filesWith(t, ".go") {
		fset := token.NewFileSet()
		for _, group := range parse(t, fset, name, 0).Comments {
			for _, comment := range group.List {
				if code.MatchString(comment.Text) {
					t.Errorf("%s: %s", fset.Position(comment.Pos()), comment.Text)
				}
			}
		}
	}
}

func parse(t *testing.T, fset *token.FileSet, name string, mode parser.Mode) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(fset, name, read(t, name), mode|parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return file
}
