package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quorate/quorate/membership/quorum"
)

// Means says what the difference of two agreed texts does that its lines do not say: nodes
// that are added and removed, and other rules for the quorum.
func Means(old, now string) []string {
	a, err := ParseAgreed(old)
	if err != nil {
		return nil
	}
	b, err := ParseAgreed(now)
	if err != nil {
		return nil
	}
	var out []string
	if more := lacking(a, b); more != "" {
		out = append(out, "this ADDS "+more)
	}
	if gone := lacking(b, a); gone != "" {
		out = append(out, "this REMOVES "+gone)
	}
	if was, is := a.rules(), b.rules(); was != is {
		out = append(out, fmt.Sprintf("rules: %s -> %s", was, is))
	}
	if maps.Equal(values(old), values(now)) {
		out = append(out, "only comments and layout change")
	}
	return out
}

func (c Config) rules() string {
	return cmp.Or(strings.Join(quorum.New(c.Config).InForce(c.Name), ", "), "none")
}

// values are the keys of a text as they are written.
func values(text string) map[string]string {
	out := map[string]string{}
	for _, x := range scan(text).spans {
		out[x.path] = text[x.val:x.end]
	}
	return out
}

// SameText says whether two agreed texts have the same lines, but for empty ones and
// sections that are empty.
func SameText(a, b string) bool { return bare(a) == bare(b) }

func bare(text string) string {
	s := scan(text)
	var edits []edit
	for i, h := range s.headers {
		next := s.until(i)
		if !strings.HasPrefix(text[h.at:], "[[") && !slices.ContainsFunc(s.spans, func(x span) bool { return x.key > h.at && x.key < next }) {
			edits = append(edits, edit{from: h.at, to: h.end})
		}
	}
	var out strings.Builder
	for l := range strings.Lines(apply(text, edits)) {
		if l = strings.TrimSpace(l); l != "" {
			out.WriteString(l + "\n")
		}
	}
	return out.String()
}

// LocalNote says which keys of a file are each node's own, where they are not in force
// on this node; here: the file is that node's. Empty: none.
func LocalNote(file, now Config, here bool) string {
	s := scan(file.Text)
	was, is := now.local(), file.local()
	var keys []string
	for _, k := range localKeys {
		if _, ok := s.find(k); (ok || here) && was[k] != is[k] {
			keys = append(keys, k)
		}
	}
	verb, it := "is", "it"
	if len(keys) > 1 {
		verb, it = "are", "them"
	}
	switch names := strings.Join(keys, ", "); {
	case len(keys) == 0:
		return ""
	case here:
		return fmt.Sprintf("%s %s this node's own, and not in force as the file has %s: start quorated anew here", names, verb, it)
	default:
		return fmt.Sprintf("%s %s each node's own: write %s into that node's file and start quorated anew there", names, verb, it)
	}
}

// local are the values of localKeys.
func (c Config) local() map[string]string {
	kernel := "dlm"
	if c.NoKernel {
		kernel = "none"
	}
	return map[string]string{"cluster.key_file": c.KeyFile, "cluster.kernel": kernel, "state.dir": c.StateDir, "events.send_to": c.EventsTo, "liveness.reflector": c.Reflector}
}
