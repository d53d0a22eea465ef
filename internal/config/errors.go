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

func (e Errors) sorted(src []byte) Errors {
	lines := strings.Split(string(src), "\n")
	for _, err := range e {
		if err.Line >= 1 && err.Line <= len(lines) {
			err.Excerpt = excerpt(lines[err.Line-1], err.Line, err.Column)
		}
	}
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return e
}

// excerpt draws the line with a caret; tabs keep their width.
func excerpt(line string, number, column int) string {
	line = strings.TrimRight(line, "\r")
	prefix := fmt.Sprintf("%5d | ", number)
	var pad strings.Builder
	for i, r := range []rune(line) {
		if i >= column-1 {
			break
		}
		if r == '\t' {
			pad.WriteRune('\t')
		} else {
			pad.WriteByte(' ')
		}
	}
	return prefix + line + "\n" + strings.Repeat(" ", len(prefix)-2) + "| " + pad.String() + "^"
}

// suggest returns the known word that is nearest to one that is not, or "".
func suggest(word string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := editDistance(strings.ToLower(word), k); d < distance && d < len(k) {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
