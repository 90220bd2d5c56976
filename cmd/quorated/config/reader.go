package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/membership"
)

var (
	clusterName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)
	nodeName    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,62})$`)
)

// parser gathers the faults of one file.
type parser struct {
	file   string
	lines  map[string]int
	faults Faults
	nodeAt map[membership.NodeID]int // which [[node]] section a node is, from 0
	freeID int64                     // that no [[node]] has
}

// fault notes a fault of the key at path, for example node[1].addr.
func (p *parser) fault(path, format string, args ...any) {
	p.faults = append(p.faults, Fault{File: p.file, Line: p.line(path), Text: fmt.Sprintf(format, args...)})
}

// line returns the line of a key, or of the nearest section around it.
func (p *parser) line(path string) int {
	for path != "" {
		if n, ok := p.lines[path]; ok {
			return n
		}
		i := strings.LastIndexByte(path, '.')
		if i < 0 {
			break
		}
		path = path[:i]
	}
	return 1
}

func (p *parser) sorted() Faults {
	slices.SortStableFunc(p.faults, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	return slices.Compact(p.faults)
}

// table is one section of the file. It remembers which keys were asked for, so
// that done can name the others.
type table struct {
	p     *parser
	path  string
	m     map[string]any
	given bool
	known []string
}

func (t *table) at(key string) string {
	if t.path == "" {
		return key
	}
	return t.path + "." + key
}

func (t *table) fault(key, format string, args ...any) {
	t.p.fault(t.at(key), format, args...)
}

func (t *table) get(key string) (any, bool) {
	t.known = append(t.known, key)
	v, ok := t.m[key]
	return v, ok
}

func (t *table) sub(key string) *table {
	s := &table{p: t.p, path: t.at(key)}
	v, ok := t.get(key)
	if !ok {
		return s
	}
	if s.m, s.given = v.(map[string]any); !s.given {
		t.fault(key, "%s is %s: write a section [%s]", key, kind(v), s.path)
		s.given = true
	}
	return s
}

func (t *table) list(key string) []*table {
	v, ok := t.get(key)
	if !ok {
		return nil
	}
	var all []map[string]any
	switch x := v.(type) {
	case []map[string]any:
		all = x
	case []any: // node = [{…}, {…}]
		for _, e := range x {
			m, ok := e.(map[string]any)
			if !ok {
				t.fault(key, "%s is %s: write a section [[%s]] for each", key, kind(v), key)
				return nil
			}
			all = append(all, m)
		}
	default:
		t.fault(key, "%s is %s: write [[%s]] with two brackets, one section for each", key, kind(v), key)
		return nil
	}
	out := make([]*table, len(all))
	for i, m := range all {
		out[i] = &table{p: t.p, path: fmt.Sprintf("%s[%d]", key, i), m: m, given: true}
	}
	return out
}

func (t *table) str(key, def string) string {
	v, ok := t.get(key)
	if !ok {
		return def
	}
	s, ok := v.(string)
	if !ok {
		t.fault(key, `%s is %s: write %s = "…"`, key, kind(v), key)
		return def
	}
	return s
}

// number returns an integer within [lo, hi], or def.
func (t *table) number(key string, def, lo, hi int64) (int64, bool) {
	v, ok := t.get(key)
	if !ok {
		return def, false
	}
	n, ok := v.(int64)
	if !ok {
		t.fault(key, "%s is %s: write a number without quotes, from %d to %d", key, kind(v), lo, hi)
		return def, false
	}
	if n < lo || n > hi {
		t.fault(key, "%s = %d is out of range: write a number from %d to %d", key, n, lo, hi)
		return def, false
	}
	return n, true
}

func (t *table) port(key string, def uint16) uint16 {
	n, _ := t.number(key, int64(def), 1, 65535)
	return uint16(n)
}

func (t *table) dur(key string, def, lo, hi time.Duration) time.Duration {
	v, ok := t.get(key)
	if !ok {
		return def
	}
	s, ok := v.(string)
	if !ok {
		t.fault(key, `%s is %s: write a time with its unit, for example %s = "%s"`, key, kind(v), key, membership.Short(def))
		return def
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.fault(key, `%s = %q is not a time: write a number with its unit (ms, s, m), for example "%s"`, key, s, membership.Short(def))
		return def
	}
	if d < lo || d > hi {
		t.fault(key, `%s = %q is out of range: write a time from %s to %s`, key, s, membership.Short(lo), membership.Short(hi))
		return def
	}
	return d
}

func (t *table) oneOf(key, def string, words ...string) string {
	s := t.str(key, def)
	if slices.Contains(words, s) {
		return s
	}
	t.fault(key, "%s = %q is not known%s: write one of %s", key, s, suggest(s, words), strings.Join(words, ", "))
	return def
}

// file returns an absolute path.
func (t *table) file(key, def string) string {
	s := t.str(key, def)
	if !filepath.IsAbs(s) {
		t.fault(key, `%s = %q is not an absolute path: write %s = "%s" or another that starts with /`, key, s, key, def)
		return def
	}
	return filepath.Clean(s)
}

// words returns a list of strings; numbers are taken as strings when they are allowed.
func (t *table) words(key string, numbers bool) []string {
	v, ok := t.get(key)
	if !ok {
		return nil
	}
	all, ok := v.([]any)
	if !ok {
		t.fault(key, `%s is %s: write a list in brackets, for example %s = ["…"]`, key, kind(v), key)
		return nil
	}
	out := make([]string, 0, len(all))
	for _, e := range all {
		switch x := e.(type) {
		case string:
			out = append(out, x)
		case int64:
			if numbers {
				out = append(out, strconv.FormatInt(x, 10))
				continue
			}
			t.fault(key, `%s holds %s: write each in quotes`, key, kind(e))
		default:
			t.fault(key, `%s holds %s: write each in quotes`, key, kind(e))
		}
	}
	return out
}

// pairs returns a table of strings; numbers and booleans become strings, true as 1.
func (t *table) pairs(key string) map[string]string {
	s := t.sub(key)
	out := make(map[string]string, len(s.m))
	for k, v := range s.m {
		switch x := v.(type) {
		case string:
			out[k] = x
		case int64:
			out[k] = strconv.FormatInt(x, 10)
		case bool:
			out[k] = map[bool]string{true: "1", false: "0"}[x]
		default:
			s.fault(k, `%s is %s: write %s = "…"`, k, kind(v), k)
		}
	}
	return out
}

// done reports the keys that nobody asked for.
func (t *table) done() {
	for k := range t.m {
		if slices.Contains(t.known, k) {
			continue
		}
		where := "[" + t.path + "]"
		if t.path == "" {
			where = "the file"
		} else if i := strings.IndexByte(t.path, '['); i > 0 {
			where = "[[" + t.path[:i] + "]]"
		}
		near, do := suggest(k, t.known), "remove it"
		if near == "" && where == "[[fence]]" {
			do = fmt.Sprintf("if it is an option of the agent write it into options = { %s = … }; else remove it", bareOrQuoted(k))
		}
		t.fault(k, "unknown key %q in %s%s: %s, or write one of %s", k, where, near, do, strings.Join(t.sortedKnown(), ", "))
	}
}

func (t *table) sortedKnown() []string {
	known := slices.Clone(t.known)
	slices.Sort(known)
	return slices.Compact(known)
}

// kind names a value's type as the file's author knows it.
func kind(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "a number"
	case float64:
		return "a number with a point"
	case bool:
		return fmt.Sprintf("the word %v", v)
	case []any:
		return "a list"
	case map[string]any:
		return "a section"
	case []map[string]any:
		return "a list of sections"
	}
	return "a date"
}

func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		var ae *net.AddrError
		if errors.As(err, &ae) {
			return errors.New(ae.Err)
		}
		return err
	}
	if host == "" {
		return errors.New("no host")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	return nil
}
