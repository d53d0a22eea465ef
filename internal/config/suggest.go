package config

import (
	"fmt"
	"strings"
)

// suggest returns the known word that is nearest to one that is not, or "".
func suggest(word string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if max(len(word)-len(k), len(k)-len(word)) >= distance {
			continue // so is the distance
		}
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
