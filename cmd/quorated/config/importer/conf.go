package importer

import (
	"strings"
)

// conf is a section of corosync.conf.
type conf struct {
	pos
	name string
	keys []confKey
	subs []*conf
}

// confKey is one line "key: value".
type confKey struct {
	pos
	key, value string
}

// maxDepth is how deep sections may be nested. corosync uses three levels.
const maxDepth = 16

// parseConf reads corosync.conf: sections "name {" … "}", lines "key: value",
// comments on lines of their own that begin with #.
func parseConf(f File) (*conf, Faults) {
	var faults Faults
	fault := func(line int, text string) {
		faults = append(faults, Fault{File: f.Name, Line: line, Text: text})
	}
	root := &conf{pos: pos{f.Name, 1}}
	open := []*conf{root}
	n := 0
	for l := range strings.Lines(string(f.Data)) {
		n++
		at := pos{f.Name, n}
		line := strings.TrimSpace(l)
		in := open[len(open)-1]
		name, section := strings.CutSuffix(line, "{")
		key, value, pair := strings.Cut(line, ":")
		switch {
		case line == "" || line[0] == '#':
		case section && strings.TrimSpace(name) == "":
			fault(n, "a section without a name: write it before the brace, as nodelist {")
		case section && len(open) > maxDepth:
			fault(n, "sections are nested too deep: close those before with } on lines of their own")
			return root, faults
		case section:
			s := &conf{pos: at, name: strings.TrimSpace(name)}
			in.subs = append(in.subs, s)
			open = append(open, s)
		case line == "}" && len(open) == 1:
			fault(n, "a closing brace too many: remove it, or write the section's name and { before it")
		case line == "}":
			open = open[:len(open)-1]
		case pair && strings.TrimSpace(key) == "":
			fault(n, "a value without a key: write key: value")
		case pair:
			in.keys = append(in.keys, confKey{at, strings.TrimSpace(key), strings.TrimSpace(value)})
		default:
			fault(n, "neither a section, nor key: value, nor }: write one of these on a line; comments have a line of their own that begins with #")
		}
	}
	for _, s := range open[1:] {
		fault(s.line, "section "+clean(s.name)+" is not closed: write } on a line of its own at its end")
	}
	return root, faults
}

// get returns the last value of a key, which is what corosync uses.
func (c *conf) get(key string) (confKey, bool) {
	for i := len(c.keys) - 1; i >= 0; i-- {
		if c.keys[i].key == key {
			return c.keys[i], true
		}
	}
	return confKey{}, false
}

// all returns the sections of a name.
func (c *conf) all(name string) []*conf {
	var out []*conf
	for _, s := range c.subs {
		if s.name == name {
			out = append(out, s)
		}
	}
	return out
}
