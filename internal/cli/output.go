package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// A format is how results are printed.
type format int

const (
	formatTable format = iota
	formatJSON
	formatYAML
)

func formatNames() []string { return []string{"table", "json", "yaml"} }

// String returns the word used on the command line.
func (f *format) String() string { return formatNames()[*f] }

// Set implements pflag.Value.
func (f *format) Set(word string) error {
	i := slices.Index(formatNames(), word)
	if i < 0 {
		return fmt.Errorf("want %s", strings.Join(formatNames(), ", "))
	}
	*f = format(i)
	return nil
}

// Type implements pflag.Value.
func (f *format) Type() string { return "format" }

// print writes a result as the user asked: value for programs, or what table writes for people.
func (a *app) print(value any, table func(*screen)) error {
	switch a.output {
	case formatJSON:
		return writeJSON(a.Stdout, value)
	case formatYAML:
		return writeYAML(a.Stdout, value)
	default:
		s := &screen{colour: a.colour()}
		table(s)
		_, err := a.Stdout.Write(s.text.Bytes())
		return err
	}
}

// colour follows https://no-color.org, and what terminals without colours call themselves.
func (a *app) colour() bool {
	return a.Terminal && a.Getenv("NO_COLOR") == "" && a.Getenv("TERM") != "dumb"
}

func writeJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// writeJSONLine is for results that go on: one value a line.
func writeJSONLine(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// writeYAML goes through JSON, so that both have the same keys in the same order.
func writeYAML(w io.Writer, value any) error {
	var text bytes.Buffer
	if err := writeJSON(&text, value); err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Load(text.Bytes(), &document); err != nil {
		return fmt.Errorf("read JSON as YAML: %w", err)
	}
	blockStyle(&document)
	out, err := yaml.Dump(&document, yaml.WithIndent(2), yaml.WithLineWidth(-1))
	if err != nil {
		return err
	}
	_, err = w.Write(out)
	return err
}

// blockStyle drops the brackets of JSON, and the quotes of keys. Those of values stay: what is a
// string, a number or a truth value depends on the reader's version of YAML (in 1.1
// 33:33:00:00:00:01 is a number and "no" is false).
func blockStyle(node *yaml.Node) {
	if len(node.Content) > 0 {
		node.Style = 0
	}
	for i, child := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 {
			child.Style = 0
		}
		blockStyle(child)
	}
}

// A screen is text for people.
type screen struct {
	text   bytes.Buffer
	colour bool
}

func (s *screen) line(format string, args ...any) { fmt.Fprintf(&s.text, format+"\n", args...) }

// The colours in use, as SGR parameters of ECMA-48.
const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (s *screen) paint(colour, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// table writes rows in columns as wide as their widest cell. A header names the columns; numbers
// are aligned to the right where the header starts with a space.
func (s *screen) table(header []string, rows [][]string) {
	width := make([]int, len(header))
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(strings.TrimPrefix(cell, " ")))
		}
	}
	s.line("%s", s.paint(bold, columns(header, header, width)))
	for _, row := range rows {
		s.line("%s", columns(header, row, width))
	}
}

func columns(header, row []string, width []int) string {
	var line strings.Builder
	for i, cell := range row {
		cell = strings.TrimPrefix(cell, " ")
		pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
		if strings.HasPrefix(header[i], " ") {
			cell = pad + cell
		} else {
			cell += pad
		}
		if i > 0 {
			line.WriteString("  ")
		}
		line.WriteString(cell)
	}
	return strings.TrimRight(line.String(), " ")
}
