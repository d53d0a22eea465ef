package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// directive finds what yaml compares with each one before it: a file of nothing else takes it half
// a minute.
var directive = regexp.MustCompile(`(?:^\x{FEFF}?|[\n\r\x{85}\x{2028}\x{2029}])(%TAG)\s`)

// load parses the syntax; a file that is none of ours in size or form ends here.
func (r *reader) load(src []byte) (value, bool) {
	top := value{}
	if len(src) > maxBytes {
		r.fail(top, "", "the file is larger than %d bytes", maxBytes)
		return top, false
	}
	if !r.readable(src) {
		return top, false
	}
	if i := directive.FindSubmatchIndex(src); i != nil {
		r.fail(place(src, i[2]), "delete the line", "a directive for tags, which have no use here")
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
	if aliases := r.survey(&document); aliases > maxAliases {
		r.fail(top, "", "%d aliases are more than %d", aliases, maxAliases)
		return top, false
	}
	return value{node: document.Content[0]}, true
}

// readable looks for bytes that YAML cannot have. yaml refuses them too, but without a place; UTF-16,
// which it reads, would have excerpts that nobody can.
func (r *reader) readable(src []byte) bool {
	for i := 0; i < len(src); {
		c, size := utf8.DecodeRune(src[i:])
		if c == utf8.RuneError && size == 1 {
			r.fail(place(src, i), "save it as UTF-8", "byte 0x%02x is not UTF-8 text", src[i])
			return false
		}
		if unicode.IsControl(c) && !strings.ContainsRune("\t\n\r\u0085", c) {
			r.fail(place(src, i), "delete it", "control character %U", c)
			return false
		}
		i += size
	}
	return true
}

// place is where byte i of the file is.
func place(src []byte, i int) value {
	lines := splitLines(src[:i])
	column := utf8.RuneCountInString(lines[len(lines)-1]) + 1
	return value{node: &yaml.Node{Line: len(lines), Column: column}}
}

// syntax reports what yaml refuses. Some of its places are one line below the last.
func (r *reader) syntax(src []byte, err error) {
	refused, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		r.fail(value{}, "", "not YAML: %s", err.Error())
		return
	}
	lines := splitLines(src)
	line := min(max(refused.Mark.Line, 1), len(lines))
	at := value{node: &yaml.Node{Line: line, Column: max(refused.Mark.Column, 1)}}
	r.fail(at, syntaxHint(refused, lines[line-1]), "not YAML: %s", refused.Message)
}

// syntaxHint is what usually is behind an error of yaml.
func syntaxHint(e *yaml.LoadError, line string) string {
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	switch {
	case strings.Contains(indent, "\t"):
		return "indent with spaces, not with tabs"
	case strings.Contains(e.Message, "mapping values are not allowed"):
		return `check the indentation, and quote text that has ": " in it`
	case strings.Contains(e.Message, "cannot start any token"):
		return "put the text in quotes"
	case e.ContextMark.Line > 0 && e.ContextMark.Line != e.Mark.Line:
		return fmt.Sprintf("%s of line %d", e.ContextMsg, e.ContextMark.Line)
	}
	return ""
}

// survey refuses tags and counts aliases. A tag changes what a value is behind the reader's back:
// "!!null native" is nothing at all.
func (r *reader) survey(n *yaml.Node) (aliases int) {
	if n.Style&yaml.TaggedStyle != 0 {
		r.fail(value{node: n}, "leave it out", "tag %q has no use here", n.Tag)
	}
	if n.Kind == yaml.AliasNode {
		aliases++ // its target is counted where it stands
	}
	for _, c := range n.Content {
		aliases += r.survey(c)
	}
	return aliases
}
