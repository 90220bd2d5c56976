package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// heading is the table's; everything before it and after the table is left alone.
const heading = "| fault | where | in a run | found and mended |"

var reference = regexp.MustCompile("`([^`]+)`")

// complete returns the text with its table put right, and what only a person can.
func (s *sources) complete(text string) (now string, faults []string) {
	before, rest, ok := strings.Cut(text, heading+"\n")
	if !ok {
		return text, []string{"no table with the heading " + heading}
	}
	lines := strings.SplitAfter(rest, "\n")
	n := slices.IndexFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "|") })
	table, after := lines[1:n], lines[n:]
	seen := map[string]bool{}
	out := before + heading + "\n" + lines[0]
	for _, l := range table {
		row, wrong := s.row(l, seen)
		out += row
		faults = append(faults, wrong...)
	}
	for _, t := range s.tried {
		if t.must && !seen[t.ref] {
			row, _ := s.row(fmt.Sprintf("| %s | `%s` | | |\n", t.title(), t.ref), seen)
			out += row
		}
	}
	return out + strings.Join(after, ""), faults
}

// row fills in how often.
func (s *sources) row(line string, seen map[string]bool) (now string, faults []string) {
	cells := strings.Split(strings.TrimSpace(line), "|")
	if len(cells) != 6 {
		return line, []string{fmt.Sprintf("not four columns: %s", line)}
	}
	var total counts
	refs := reference.FindAllStringSubmatch(cells[2], -1)
	for _, m := range refs {
		t, ok := s.find(m[1])
		if !ok {
			faults = append(faults, fmt.Sprintf("`%s` is nowhere in the sources", m[1]))
			continue
		}
		seen[t.ref] = true
		total.add(t.counts)
	}
	if len(refs) == 0 {
		faults = append(faults, fmt.Sprintf("%q is tried nowhere", strings.TrimSpace(cells[1])))
	}
	cells[3] = total.String()
	for i := 1; i < 5; i++ {
		cells[i] = " " + strings.TrimSpace(cells[i]) + " "
		if cells[i] == "  " {
			cells[i] = " "
		}
	}
	return strings.Join(cells, "|") + "\n", faults
}
