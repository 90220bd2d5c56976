package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
)

// human prints a duration with two units at most: 0.2ms, 40ms, 1.5s, 14s, 2m 14s, 3h 5m, 4d 2h.
func human(d time.Duration) string {
	switch {
	case d < 0:
		return "never"
	case d < time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Truncate(100*time.Millisecond).Seconds()), ".0") + "s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return pair(d/time.Minute, "m", d%time.Minute/time.Second, "s")
	case d < 24*time.Hour:
		return pair(d/time.Hour, "h", d%time.Hour/time.Minute, "m")
	}
	return pair(d/(24*time.Hour), "d", d%(24*time.Hour)/time.Hour, "h")
}

func pair(a time.Duration, au string, b time.Duration, bu string) string {
	if b == 0 {
		return fmt.Sprintf("%d%s", int64(a), au)
	}
	return fmt.Sprintf("%d%s %d%s", int64(a), au, int64(b), bu)
}

// clock prints a daemon's wall time in the reader's zone.
func clock(wall, layout string) string {
	t, err := time.Parse(time.RFC3339Nano, wall)
	if err != nil {
		return printable(wall)
	}
	return t.Local().Format(layout)
}

// printable keeps a terminal safe from what other programs printed.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return '.'
		}
		return r
	}, s)
}

// oneLine is printable text for one cell of a table.
func oneLine(s string) string {
	return printable(strings.Join(strings.Fields(s), " "))
}

// dash fills empty cells, so that columns can be cut by scripts.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// table prints aligned columns.
func table(w io.Writer, header string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(strings.Fields(header), "\t"))
	for _, r := range rows {
		for i := range r {
			r[i] = dash(oneLine(r[i]))
		}
		fmt.Fprintln(tw, strings.Join(r, "\t"))
	}
	return tw.Flush()
}

// fit prints a table, or where the terminal is too narrow for its lines several of it, each
// with some of its columns.
func (a *app) fit(w io.Writer, columns string, rows [][]string, parts ...string) error {
	var whole strings.Builder
	if err := table(&whole, columns, rows); err != nil {
		return err
	}
	lines := strings.Split(whole.String(), "\n")
	if a.width == 0 || !slices.ContainsFunc(lines, func(l string) bool { return utf8.RuneCountInString(l) > a.width }) {
		_, err := io.WriteString(w, whole.String())
		return err
	}
	all := strings.Fields(columns)
	var errs []error
	for i, part := range parts {
		some := make([][]string, len(rows))
		for _, c := range strings.Fields(part) {
			for k := range rows {
				some[k] = append(some[k], rows[k][slices.Index(all, c)])
			}
		}
		if i > 0 {
			fmt.Fprintln(w)
		}
		errs = append(errs, table(w, part, some))
	}
	return errors.Join(errs...)
}

// list writes a JSON array, [] when it is empty.
func (a *app) list(v any, n int) error {
	if n == 0 {
		_, err := fmt.Fprintln(a.out, "[]")
		return err
	}
	return a.json(v)
}

func (a *app) json(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// names gives nodes the names of the configuration.
type names map[membership.NodeID]string

func namesOf(s *control.Status) names {
	n := names{}
	if s != nil {
		for _, x := range s.Nodes {
			n[x.ID] = x.Name
		}
	}
	return n
}

func (n names) of(id membership.NodeID) string {
	if id == 0 {
		return ""
	}
	if name := n[id]; name != "" {
		return name
	}
	if id.IsWitness() {
		return "the witness"
	}
	return fmt.Sprintf("node %d", uint32(id))
}

var numbered = regexp.MustCompile(`\b(node [0-9]+|members \[[0-9 ]*\])`)

// in has the names in the place of the numbers of a text.
func (n names) in(text string) string {
	name := func(number string) string {
		if id, err := strconv.ParseUint(number, 10, 32); err == nil && n[membership.NodeID(id)] != "" {
			return n[membership.NodeID(id)]
		}
		return ""
	}
	return numbered.ReplaceAllStringFunc(text, func(s string) string {
		if number, ok := strings.CutPrefix(s, "node "); ok {
			return cmp.Or(name(number), s)
		}
		numbers := strings.Fields(strings.Trim(strings.TrimPrefix(s, "members "), "[]"))
		for i, number := range numbers {
			numbers[i] = cmp.Or(name(number), number)
		}
		return "members " + strings.Join(numbers, " ")
	})
}

func (n names) all(ids []membership.NodeID) string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = n.of(id)
	}
	return strings.Join(out, " ")
}

const (
	red    = "\x1b[1;31m"
	yellow = "\x1b[1;33m"
	green  = "\x1b[32m"
)

func (a *app) paint(colour, s string) string {
	if !a.colour {
		return s
	}
	return colour + s + "\x1b[0m"
}
