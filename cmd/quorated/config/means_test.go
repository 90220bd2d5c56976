package config

import (
	"slices"
	"strings"
	"testing"
)

func TestWhatADifferenceMeans(t *testing.T) {
	pair := strings.Replace(two, "fencing = \"manual\"\n", "", 1) + "[[fence]]\nnodes = [\"alpha\", \"beta\"]\nagent = \"fence_x\"\noptions = { plug = \"{name}\" }\n"
	three, err := AddNode(pair, NewNode{Name: "gamma", ID: 3, Addrs: []string{"10.0.0.3"}, Like: "beta"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		old, now string
		want     []string
	}{
		"a node more":   {pair, three, []string{"this ADDS node gamma", "rules: two_node, wait_for_all -> none"}},
		"a node less":   {three, pair, []string{"this REMOVES node gamma", "rules: none -> two_node, wait_for_all"}},
		"another id":    {pair, strings.Replace(pair, "id = 2", "id = 7", 1), nil},
		"a time":        {pair, pair + "[liveness]\nprofile = \"vm\"\n", nil},
		"a comment":     {pair, "# hm\n" + pair, []string{"only comments and layout change"}},
		"not readable":  {pair, "[", nil},
		"none readable": {"[", pair, nil},
	} {
		if got := Means(c.old, c.now); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// What remains of a file when each node's own keys are taken out is no other text.
func TestSameTexts(t *testing.T) {
	local := two + "\n[liveness]\nreflector = \"off\"\n"
	text, err := Agreeable(local, two)
	if err != nil || !SameText(text, two) {
		t.Errorf("%v\n%s", err, text)
	}
	for _, other := range []string{two + "# hm\n", two + "[liveness]\nprofile = \"safe\"\n", local} {
		if SameText(other, two) {
			t.Errorf("the same:\n%s", other)
		}
	}
	if got := LocalNote(local); !strings.HasPrefix(got, "liveness.reflector is each node's own: write it into that node's file") {
		t.Error(got)
	}
	if got := LocalNote(local + "[state]\ndir = \"/x\"\n"); !strings.HasPrefix(got, "state.dir, liveness.reflector are each") {
		t.Error(got)
	}
	if got := LocalNote(two); got != "" {
		t.Error(got)
	}
}
