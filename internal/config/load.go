package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// load parses the syntax; a file that is none of ours in size or form ends here.
func (r *reader) load(src []byte) (value, bool) {
	top := value{}
	if len(src) > maxBytes {
		r.fail(top, "", "the file is larger than %d bytes", maxBytes)
		return top, false
	}
	if i := unreadable(src); i >= 0 {
		r.fail(place(src, i), "save it as UTF-8", "byte %#02x is neither UTF-8 text nor a line break", src[i])
		return top, false
	}
	var document, second yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(src))
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		r.fail(top, "", "the file is empty")
		return top, false
	} else if err != nil {
		r.syntax(src, err)
		return top, false
	}
	if err := decoder.Decode(&second); err == nil {
		r.fail(value{node: &second}, "", "a second document starts here; a file holds one")
		return top, false
	} else if !errors.Is(err, io.EOF) {
		r.syntax(src, err)
		return top, false
	}
	if aliases := countAliases(&document); aliases > maxAliases {
		r.fail(top, "", "%d aliases are more than %d", aliases, maxAliases)
		return top, false
	}
	return value{node: document.Content[0]}, true
}

// unreadable returns the index of the first byte that YAML cannot have, or -1. yaml refuses them
// too, but without a place; UTF-16, which it reads, would have excerpts that nobody can.
func unreadable(src []byte) int {
	for i := 0; i < len(src); {
		c, size := utf8.DecodeRune(src[i:])
		invalid := c == utf8.RuneError && size == 1
		if invalid || unicode.IsControl(c) && !strings.ContainsRune("\t\n\r\u0085", c) {
			return i
		}
		i += size
	}
	return -1
}

// place is where byte i of the file is.
func place(src []byte, i int) value {
	lines := splitLines(src[:i])
	column := utf8.RuneCountInString(lines[len(lines)-1]) + 1
	return value{node: &yaml.Node{Line: len(lines), Column: column}}
}

// syntax reports what yaml refuses. Some of its places are one line below the last.
func (r *reader) syntax(src []byte, err error) {
	at, message, hint := value{}, strings.TrimPrefix(err.Error(), "yaml: "), ""
	if load, ok := errors.AsType[*yaml.LoadError](err); ok {
		message = load.Message
		lines := splitLines(src)
		line := min(max(load.Mark.Line, 1), len(lines))
		at.node = &yaml.Node{Line: line, Column: max(load.Mark.Column, 1)}
		if text := lines[line-1]; strings.Contains(text[:len(text)-len(strings.TrimLeft(text, " \t"))], "\t") {
			hint = "indent with spaces, not with tabs"
		} else if load.ContextMark.Line > 0 {
			hint = fmt.Sprintf("%s that starts in line %d", load.ContextMsg, load.ContextMark.Line)
		}
	}
	r.fail(at, hint, "not YAML: %s", message)
}

func countAliases(n *yaml.Node) int {
	count := 0
	if n.Kind == yaml.AliasNode {
		count++ // its target is counted where it stands
	}
	for _, c := range n.Content {
		count += countAliases(c)
	}
	return count
}
