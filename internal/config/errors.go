package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// An Error is one thing wrong with a file, and where.
type Error struct {
	File    string `json:"file"`
	Line    int    `json:"line"`    // from 1
	Column  int    `json:"column"`  // from 1
	Path    string `json:"path"`    // services[0].ports
	Message string `json:"message"` // 0 is not in 1..65535
	Hint    string `json:"hint"`    // did you mean "hash"?; may be empty
	Excerpt string `json:"excerpt"` // the line and a caret below the place; may be empty
}

// Error is one line: lb.yaml:14:7: services[0].ports: 0 is not in 1..65535.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s:%d:%d: ", e.File, e.Line, e.Column)
	if e.Path != "" {
		s += e.Path + ": "
	}
	s += e.Message
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Errors is everything wrong with a file, from top to bottom.
type Errors []*Error

// Error is one line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Report is what people read: each error with the line that it is about.
func (e Errors) Report() string {
	lines := []string{"the configuration is invalid"}
	for _, err := range e {
		lines = append(lines, err.Error())
		if err.Excerpt != "" {
			lines = append(lines, err.Excerpt)
		}
	}
	return strings.Join(lines, "\n")
}

func (e Errors) sorted(src []byte) Errors {
	lines := splitLines(src)
	shown := make(map[int][]rune) // of a file in one line, every error has the same
	for _, err := range e {
		err.Line = min(err.Line, len(lines)) // a document that is missing begins below the last
		if shown[err.Line] == nil {
			shown[err.Line] = []rune(withoutSeed(lines[err.Line-1]))
		}
		err.Excerpt = excerpt(shown[err.Line], err.Line, err.Column)
	}
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return e
}
