package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// lineBreaks is what YAML 1.1 takes for one, so that our lines have its numbers.
var lineBreaks = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

// splitLines leaves the byte order mark out: it is no column.
func splitLines(src []byte) []string {
	return strings.Split(lineBreaks.Replace(strings.TrimPrefix(string(src), "\ufeff")), "\n")
}

// seedText is the seed and what stands before it. An excerpt ends up in a log and seeds must not,
// even those with a typing error.
var seedText = regexp.MustCompile(`(seed["']?\s*:[\s"'\[{]*)([^\s"',{}\[\]]+)`)

// longWord is what a seed looks like that stands away from its key: on a line of its own, behind an
// anchor, under a key with a typing error. No other value is that long without a dot or a colon.
var longWord = regexp.MustCompile(`[0-9A-Za-z+/=_]{32,}`)

func withoutSeed(line string) string {
	line = seedText.ReplaceAllStringFunc(line, func(s string) string {
		m := seedText.FindStringSubmatch(s)
		return m[1] + strings.Repeat("*", utf8.RuneCountInString(m[2]))
	})
	return longWord.ReplaceAllStringFunc(line, func(s string) string {
		if !strings.ContainsAny(s, "0123456789") {
			return s // a name that is too long, which the excerpt is there to show
		}
		return strings.Repeat("*", len(s))
	})
}

// Of a longer line an excerpt shows what is around the place.
const (
	excerptWidth  = 120
	excerptBefore = 80
)

// excerpt draws the line with a caret; tabs keep their width.
func excerpt(line []rune, number, column int) string {
	caret := min(max(column-1, 0), len(line))
	first := 0
	if caret > excerptBefore {
		first, caret = caret-excerptBefore, excerptBefore
	}
	shown := slices.Clone(line[first:min(first+excerptWidth, len(line))])
	pad := []rune(strings.Repeat(" ", caret))
	for i, c := range shown {
		switch {
		case c == '\t' && i < caret:
			pad[i] = '\t'
		case c != '\t' && !unicode.IsPrint(c):
			shown[i] = unicode.ReplacementChar
		}
	}
	if first > 0 {
		shown[0], pad[0] = '…', ' '
	}
	if first+len(shown) < len(line) {
		shown[len(shown)-1] = '…'
	}
	prefix := fmt.Sprintf("%5d | ", number)
	return prefix + string(shown) + "\n" + strings.Repeat(" ", len(prefix)-2) + "| " + string(pad) + "^"
}
