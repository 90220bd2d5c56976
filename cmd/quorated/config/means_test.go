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
}

// What is each node's own is spoken of where it is not in force already.
func TestWhatOfAFileIsANodesOwn(t *testing.T) {
	reflector := two + "[liveness]\nreflector = \"off\"\n"
	both := reflector + "[state]\ndir = \"/x\"\n"
	for _, c := range []struct {
		file, now string
		here      bool
		want      string
	}{
		{two, two, true, ""},
		{reflector, reflector, true, ""},
		{reflector, reflector, false, ""},
		{two, reflector, false, ""},
		{reflector, two, false, "liveness.reflector is each node's own: write it into that node's file and start quorated anew there"},
		{both, two, false, "state.dir, liveness.reflector are each node's own: write them into that node's file and start quorated anew there"},
		{reflector, two, true, "liveness.reflector is this node's own, and not in force as the file has it: start quorated anew here"},
		{two, both, true, "state.dir, liveness.reflector are this node's own, and not in force as the file has them: start quorated anew here"},
	} {
		if got := LocalNote(mustParse(t, c.file), mustParse(t, c.now), c.here); got != c.want {
			t.Errorf("%q is not %q", got, c.want)
		}
	}
}
