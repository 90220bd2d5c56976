package config

import (
	"strings"
	"testing"
)

// A device that is told nothing of whom to cut off is one that may cut off another.
func TestDevicesThatCannotTellTheirNodesApart(t *testing.T) {
	const one, two, named = "agent = \"fence_x\"\n", "agent = \"/opt/fence_y\"\noptions = { ip = \"10.0.9.1\" }\n", "agent = \"fence_x\"\noptions = { plug = \"{name}\" }\n"
	at := func(nodes, rest string) string { return "[[fence]]\nnodes = [" + nodes + "]\n" + rest }
	base, _, _ := strings.Cut(fenced(3, ""), "[[fence]]")
	for name, c := range map[string]struct {
		text string
		says []string
	}{
		"by name":           {at(`"a", "b", "c"`, named), nil},
		"by id":             {at(`"a", "b", "c"`, strings.Replace(named, "name", "id", 1)), nil},
		"by plug":           {at(`"a", "b", "c"`, two+"plugs = { a = \"1\", b = \"2\", c = \"3\" }\n"), nil},
		"one each":          {at(`"a"`, two) + at(`"b"`, strings.Replace(two, "9.1", "9.2", 1)) + at(`"c"`, one), nil},
		"all alike":         {at(`"a", "b", "c"`, one), []string{"fence_x is given the same options for a and for b: nothing tells it which of them to cut off, and it switches off the wrong machine"}},
		"in two sections":   {at(`"a", "c"`, named) + at(`"b"`, two) + at(`"a"`, two), []string{"fence_y is given the same options for b and for a"}},
		"the same plug":     {at(`"a", "b", "c"`, two+"plugs = { a = \"1\", b = \"2\", c = \"2\" }\n"), []string{"fence_y is given the same options for b and for c"}},
		"two of one node's": {at(`"a", "b", "c"`, named) + at(`"a"`, two) + at(`"a"`, two), nil},
	} {
		got := parse(t, base+c.text).Alike
		if len(got) != len(c.says) || len(got) == 1 && !strings.HasPrefix(got[0], c.says[0]) {
			t.Errorf("%s: %q, want %q", name, got, c.says)
		}
	}
}
