package cli

import (
	"bytes"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

func TestYAMLQuotesStringsForEveryReader(t *testing.T) {
	words := []string{"33:33:00:00:00:01", "12:30:45", "yes", "off", "null", "~", "1e3", "0x10", "007", "", "- a",
		"a: b", "a #b", "*a", "&a", "2026-03-01", "{}", "line\nbreak", "tab\there", "é", strings.Repeat("long ", 40), "'", `"`, `\`}
	var text bytes.Buffer
	if err := writeYAML(&text, words); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text.String()) {
		if !strings.HasPrefix(line, `- "`) {
			t.Errorf("not quoted: %s", line)
		}
	}
	var got []string
	if err := yaml.Load(text.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for i, word := range words {
		if got[i] != word {
			t.Errorf("%q became %q", word, got[i])
		}
	}
}

func TestSizesAreInBinaryUnits(t *testing.T) {
	for bytes, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1 << 20: "1.0 MiB", 1<<64 - 1: "16.0 EiB",
	} {
		if got := size(bytes); got != want {
			t.Errorf("%d: %s, want %s", bytes, got, want)
		}
	}
}

func TestColumnsAreAsWideAsTheirWidestCell(t *testing.T) {
	var s screen
	s.table([]string{"NAME", " COUNT", "NOTE"}, [][]string{{"é", "7", ""}, {"longer", "1000", "x"}})
	want := "NAME    COUNT  NOTE\né           7\nlonger   1000  x\n"
	if got := s.text.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
