package config

import (
	"fmt"
	"strings"
)

// locate returns the line of each section and key of a TOML file, by path:
// "cluster.name", "node[1].addr", "fence[0].options.ip". It is only used to say
// where a fault is, so it trusts that the file is well-formed and gives fewer
// entries, never an error, when it is not. Keys inside inline tables are not
// listed; they are on the line of their table.
func locate(text string) map[string]int {
	l := locator{text: text, line: 1, lines: map[string]int{}, count: map[string]int{}}
	for l.skip(); l.pos < len(l.text); l.skip() {
		l.statement()
	}
	return l.lines
}

type locator struct {
	text   string
	pos    int
	line   int
	prefix string
	lines  map[string]int
	count  map[string]int // sections so far of each [[array]]
}

func (l *locator) peek(s string) bool { return strings.HasPrefix(l.text[l.pos:], s) }

func (l *locator) next() byte {
	c := l.text[l.pos]
	l.pos++
	if c == '\n' {
		l.line++
	}
	return c
}

// skip passes white space, line ends and comments.
func (l *locator) skip() {
	for l.pos < len(l.text) {
		switch l.text[l.pos] {
		case ' ', '\t', '\r', '\n':
			l.next()
		case '#':
			l.rest()
		default:
			return
		}
	}
}

func (l *locator) rest() {
	for l.pos < len(l.text) && l.text[l.pos] != '\n' {
		l.pos++
	}
}

func (l *locator) statement() {
	line := l.line
	switch {
	case l.peek("[["):
		l.pos += 2
		l.header(l.key(), true, line)
		l.rest()
	case l.peek("["):
		l.pos++
		l.header(l.key(), false, line)
		l.rest()
	default:
		parts := l.key()
		path := l.prefix
		for _, part := range parts {
			if path != "" {
				path += "."
			}
			path += part
			l.note(path, line)
		}
		l.value()
	}
}

func (l *locator) note(path string, line int) {
	if _, ok := l.lines[path]; !ok && path != "" {
		l.lines[path] = line
	}
}

// header enters a section. Each part that is an array means its newest element.
func (l *locator) header(parts []string, array bool, line int) {
	path := ""
	for i, part := range parts {
		if path != "" {
			path += "."
		}
		path += part
		if array && i == len(parts)-1 {
			l.count[path]++
			l.note(path, line)
		}
		if n := l.count[path]; n > 0 {
			path = fmt.Sprintf("%s[%d]", path, n-1)
		}
	}
	l.prefix = path
	l.note(path, line)
}

// key reads a bare, quoted or dotted key up to its = or ].
func (l *locator) key() []string {
	var parts []string
	var part strings.Builder
	for l.pos < len(l.text) {
		switch c := l.text[l.pos]; c {
		case '=', ']', '\n':
			l.next()
			return append(parts, part.String())
		case '.':
			l.next()
			parts = append(parts, part.String())
			part.Reset()
		case '"', '\'':
			start := l.pos
			l.quoted()
			part.WriteString(strings.Trim(l.text[start:l.pos], string(c)))
		case ' ', '\t', '\r':
			l.next()
		default:
			part.WriteByte(l.next())
		}
	}
	return append(parts, part.String())
}

// value passes a value to the end of its line, or further when brackets or
// long strings are open.
func (l *locator) value() {
	for depth := 0; l.pos < len(l.text); {
		switch l.text[l.pos] {
		case '"', '\'':
			l.quoted()
		case '#':
			l.rest()
		case '[', '{':
			depth++
			l.next()
		case ']', '}':
			depth--
			l.next()
		case '\n':
			if depth <= 0 {
				return
			}
			l.next()
		default:
			l.next()
		}
	}
}

// quoted passes a string of any of the four kinds.
func (l *locator) quoted() {
	q := l.text[l.pos : l.pos+1]
	end := q
	if l.peek(q + q + q) {
		end = q + q + q
	}
	l.pos += len(end)
	for l.pos < len(l.text) {
		switch {
		case l.peek(end):
			l.pos += len(end)
			return
		case q == `"` && l.text[l.pos] == '\\' && l.pos+1 < len(l.text):
			l.next()
			l.next()
		case len(end) == 1 && l.text[l.pos] == '\n':
			return
		default:
			l.next()
		}
	}
}
