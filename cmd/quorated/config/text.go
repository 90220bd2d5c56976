package config

import (
	"fmt"
	"strings"
)

// span is one key and its value in a text, by bytes.
type span struct {
	path   string // as locate has it, and keys of inline tables and arrays: fence[0].options.ip
	key    int    // where the key begins
	val    int    // where the value begins,
	end    int    // and ends
	inline bool   // within an inline table
}

// header is one section's line in a text.
type header struct {
	path string // node[1], cluster
	at   int    // of its first bracket
	end  int    // after its line
}

// scanner finds the keys and sections of a well-formed TOML text. Of another text it
// finds fewer, and gives no error.
type scanner struct {
	locator
	spans   []span
	headers []header
}

// until is where a section ends, that with the i-th header: at the next one.
func (s *scanner) until(i int) int {
	if i+1 < len(s.headers) {
		return s.headers[i+1].at
	}
	return len(s.text)
}

func scan(text string) *scanner {
	s := &scanner{locator: locator{text: text, line: 1, lines: map[string]int{}, count: map[string]int{}}}
	for s.skip(); s.pos < len(text); s.skip() {
		at := s.pos
		if s.peek("[") {
			s.locator.statement()
			s.headers = append(s.headers, header{s.prefix, at, min(s.pos+1, len(text))})
			continue
		}
		path := join(s.prefix, s.key()...)
		s.keyed(path, at, false)
		s.rest()
	}
	return s
}

func join(prefix string, parts ...string) string {
	for _, p := range parts {
		if prefix != "" {
			prefix += "."
		}
		prefix += p
	}
	return prefix
}

// keyed passes the value of a key.
func (s *scanner) keyed(path string, at int, inline bool) {
	s.blank()
	x := span{path: path, key: at, val: s.pos, inline: inline}
	i := len(s.spans)
	s.spans = append(s.spans, x)
	s.scanValue(path)
	s.spans[i].end = s.pos
}

// blank passes spaces within a line.
func (s *scanner) blank() {
	for s.pos < len(s.text) && (s.text[s.pos] == ' ' || s.text[s.pos] == '\t') {
		s.next()
	}
}

func (s *scanner) scanValue(path string) {
	if s.pos >= len(s.text) {
		return
	}
	switch s.text[s.pos] {
	case '"', '\'':
		s.quoted()
	case '{':
		s.items('}', func(int) {
			at := s.pos
			s.keyed(join(path, s.key()...), at, true)
		})
	case '[':
		s.items(']', func(i int) { s.scanValue(fmt.Sprintf("%s[%d]", path, i)) })
	default:
		end := s.pos
		for s.pos < len(s.text) && !strings.ContainsRune(",]}\n#", rune(s.text[s.pos])) {
			if c := s.next(); c != ' ' && c != '\t' && c != '\r' {
				end = s.pos
			}
		}
		s.pos = end
	}
}

// items passes what stands between two brackets, one item after the other.
func (s *scanner) items(closing byte, item func(i int)) {
	s.next()
	for i := 0; ; i++ {
		for s.skip(); s.pos < len(s.text) && s.text[s.pos] == ','; s.skip() {
			s.next()
		}
		if s.pos >= len(s.text) {
			return
		}
		if s.text[s.pos] == closing {
			s.next()
			return
		}
		was := s.pos
		if item(i); s.pos == was {
			s.next() // nothing that an item could be
		}
	}
}

// find returns the span of a path.
func (s *scanner) find(path string) (span, bool) {
	for _, x := range s.spans {
		if x.path == path {
			return x, true
		}
	}
	return span{}, false
}

// edit is one replacement of a text's bytes.
type edit struct {
	from, to int
	by       string
}

// apply makes edits that do not overlap, in any order.
func apply(text string, edits []edit) string {
	for i := range edits { // few: the last place first
		last := i
		for k := i + 1; k < len(edits); k++ {
			if edits[k].from > edits[last].from {
				last = k
			}
		}
		edits[i], edits[last] = edits[last], edits[i]
		text = text[:edits[i].from] + edits[i].by + text[edits[i].to:]
	}
	return text
}

// wholeLine is the edit that removes a statement with its line.
func wholeLine(text string, x span) edit {
	from := strings.LastIndexByte(text[:x.key], '\n') + 1
	to := len(text)
	if i := strings.IndexByte(text[x.end:], '\n'); i >= 0 {
		to = x.end + i + 1
	}
	return edit{from: from, to: to}
}

// section is the bytes of a [[…]] section: from its header to after its last statement.
func (s *scanner) section(path string) (from, to int, ok bool) {
	for i, h := range s.headers {
		if h.path != path {
			continue
		}
		last, next := h.end, len(s.text)
		for _, n := range s.headers[i+1:] {
			if strings.HasPrefix(n.path, path+".") { // its own parts
				last = max(last, n.end)
				continue
			}
			next = n.at
			break
		}
		for _, x := range s.spans {
			if !x.inline && x.key > h.at && x.key < next {
				last = max(last, wholeLine(s.text, x).to)
			}
		}
		return h.at, last, true
	}
	return 0, 0, false
}
