package main

import (
	"bufio"
	"fmt"
	"io"
)

// report is the result of verify.
type report struct {
	OK      bool        `json:"ok"`
	Lines   int         `json:"lines"`
	Last    map[int]int `json:"last"` // by writer, the highest sequence found
	Missing []string    `json:"missing,omitempty"`
	Twice   []string    `json:"twice,omitempty"`
	Garbage []string    `json:"garbage,omitempty"`
}

// most bounds the examples a report gives of one kind.
const most = 20

func note(list *[]string, format string, args ...any) {
	if len(*list) < most {
		*list = append(*list, fmt.Sprintf(format, args...))
	}
}

// check reads the lines of append. Missing looks at 1..want of each writer.
func check(r io.Reader, want map[int]int) (report, error) {
	rep := report{Last: map[int]int{}}
	seen := map[[2]int]int{}
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		rep.Lines++
		var id, seq int
		if n, err := fmt.Sscanf(sc.Text(), "%d %d", &id, &seq); err != nil || n != 2 ||
			sc.Text() != fmt.Sprintf("%d %d", id, seq) {
			note(&rep.Garbage, "line %d: %.40q", rep.Lines, sc.Text())
			continue
		}
		k := [2]int{id, seq}
		if seen[k]++; seen[k] == 2 {
			note(&rep.Twice, "%d %d", id, seq)
		}
		rep.Last[id] = max(rep.Last[id], seq)
	}
	for id, last := range want {
		for seq := 1; seq <= last; seq++ {
			if seen[[2]int{id, seq}] == 0 {
				note(&rep.Missing, "%d %d", id, seq)
			}
		}
	}
	rep.OK = len(rep.Missing)+len(rep.Twice)+len(rep.Garbage) == 0
	return rep, sc.Err()
}
