package config

import "fmt"

// Suggest returns ` (did you mean "x"?)` for the nearest word, or nothing when none is
// near.
func Suggest(got string, words []string) string { return suggest(got, words) }

// suggest returns ` (did you mean "x"?)` for the nearest word, or nothing when
// none is near.
func suggest(got string, words []string) string {
	best, at := "", 3
	for _, w := range words {
		d := distance(got, w)
		if d < at && d < max(len(w), 2) {
			best, at = w, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is the number of letters to add, drop, replace or swap with their
// neighbour to make b of a. Long words are not compared.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	two, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], two[j-2]+1)
			}
		}
		two, prev, cur = prev, cur, two
	}
	return prev[len(b)]
}
