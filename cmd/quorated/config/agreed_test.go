package config

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership"
)

const fleet = `# ours
[cluster]
name = "tank" # the tank
key_file = "/root/key"
kernel = "none"

[[node]]
name = "alpha"
id = 1
addr = ["10.0.0.1"]

# the second one
[[node]]
name = "beta"
id = 2
addr = ["10.0.0.2"] # on the left

[[fence]]
nodes = ["alpha", "beta"]
agent = "fence_ipmilan"
options = { ip = "ipmi-{name}", username = "fence", password = "hunter#2", password_script = "/etc/pw", lanplus = true } # all

[[fence]]
nodes = [
  "alpha", # one
  2,       # two
]
agent = "fence_apc"
level = 2
plugs = { alpha = "1", beta = "2" }
[fence.options]
ip = "pdu"
community = '''
private'''

[state]
dir = "/srv/quorate"
`

func mustParse(t *testing.T, text string) Config {
	t.Helper()
	c, err := ParseAgreed(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

func TestReplicableHasNoSecretsAndNothingOfANodesOwn(t *testing.T) {
	text := strings.Replace(fleet, "'''\nprivate'''", "'private'", 1)
	out, err := Replicable(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"hunter", "private", "key_file", "kernel", "/srv/quorate", "[state]"} {
		if strings.Contains(out, gone) {
			t.Errorf("%s is in the agreed text:\n%s", gone, out)
		}
	}
	for _, kept := range []string{"# ours", "# the tank", "# the second one", `password = "(own)"`, `community = "(own)"`, `password_script = "/etc/pw"`, "# all", "# two"} {
		if !strings.Contains(out, kept) {
			t.Errorf("%s is not in the agreed text:\n%s", kept, out)
		}
	}
	if again, err := Replicable(out); err != nil || again != out {
		t.Errorf("twice: %v\n%s", err, again)
	}
	if a, b := mustParse(t, text).Digest, mustParse(t, out).Digest; !a.Equal(b) {
		t.Errorf("its digest differs in %v", Diff(a, b))
	}
}

// A section of which nothing is left goes; one that has a comment stays.
func TestSectionsThatAreEmptyAfterwards(t *testing.T) {
	for text, want := range map[string]string{
		two + "[events]\nsend_to = \"log:514\"\n":                                         two,
		two + "[events]\nsend_to = \"log:514\"\n\n[liveness]\nprofile = \"lan\"\n":        two + "[liveness]\nprofile = \"lan\"\n",
		two + "[events]\n# to the log host\nsend_to = \"log:514\"\n":                      two + "[events]\n# to the log host\n",
		two + "[liveness]\nreflector = \"off\"\nprofile = \"lan\"\n[state]\ndir = \"/x\"": two + "[liveness]\nprofile = \"lan\"\n",
		two + "[events]\n": two + "[events]\n",
	} {
		if got, err := Replicable(text); err != nil || got != want {
			t.Errorf("%v\n%q\n%q", err, got, want)
		}
	}
}

func TestTheReferenceIsReplicable(t *testing.T) {
	text, err := os.ReadFile("../dist/quorate.toml")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := Replicable(string(text)); err != nil || out != string(text) {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestSecretsAreRefused(t *testing.T) {
	text := strings.Replace(fleet, "'''\nprivate'''", "'private'", 1)
	err := Public(text)
	if !errors.Is(err, ErrSecret) || strings.Contains(err.Error(), "hunter") || !strings.Contains(err.Error(), "password_script") {
		t.Fatal(err)
	}
	out, _ := Replicable(text)
	if err := Public(out + "\n[events]\nsend_to = \"log:1\"\n"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "events.send_to is each node's own") {
		t.Fatal(err)
	}
	if err := Public("[cluster]\nname = 1"); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
	inline := `cluster = { name = "tank", kernel = "none" }` + "\n[[node]]\nname = \"a\"\nid = 1\naddr = [\"10.0.0.1\"]\n"
	if _, err := Replicable(inline); err == nil || !strings.Contains(err.Error(), "cluster.kernel is each node's own") {
		t.Fatal(err)
	}
}

func TestEffectiveIsTheAgreedTextWithANodesOwn(t *testing.T) {
	text := strings.Replace(fleet, "'''\nprivate'''", "'private'", 1)
	own := mustParse(t, text)
	own.Path, own.Self = "/etc/q.toml", 2
	agreed, _ := Replicable(text)
	agreed = strings.Replace(agreed, `lanplus = true`, `lanplus = true, power_timeout = 7`, 1)
	c, missing, err := Effective(agreed, own)
	if err != nil || len(missing) > 0 {
		t.Fatal(err, missing)
	}
	if c.Self != 2 || c.Path != own.Path || c.KeyFile != "/root/key" || !c.NoKernel || c.StateDir != "/srv/quorate" {
		t.Fatalf("%+v", c)
	}
	for _, d := range c.Devices {
		want := map[string]string{"fence_ipmilan": "hunter#2", "fence_apc": "private"}[d.Agent]
		if got := d.Options["password"] + d.Options["community"]; got != want {
			t.Errorf("%s of node %v has %q", d.Agent, d.Nodes, got)
		}
	}
	if c.Devices[0].Options["power_timeout"] != "7" {
		t.Error("the agreed option is not there")
	}
	_, missing, _ = Effective(agreed, mustParse(t, agreed))
	if want := []string{"community of fence_apc for node alpha", "community of fence_apc for node beta", "password of fence_ipmilan for node alpha", "password of fence_ipmilan for node beta"}; !slices.Equal(missing, want) {
		t.Fatal(missing)
	}
	if _, _, err := Effective("name", own); err == nil {
		t.Fatal("not TOML")
	}
}

func TestWithOwnCanBeAFile(t *testing.T) {
	own := mustParse(t, fleet)
	own.EventsTo = "log:514"
	agreed, err := Replicable(strings.Replace(fleet, "'''\nprivate'''", "'private'", 1))
	if err != nil {
		t.Fatal(err)
	}
	c := mustParse(t, WithOwn(agreed, own))
	if c.KeyFile != own.KeyFile || !c.NoKernel || c.StateDir != own.StateDir || c.EventsTo != "log:514" {
		t.Fatalf("%+v\n%s", c, WithOwn(agreed, own))
	}
	if out := WithOwn(agreed, Config{KeyFile: DefaultKeyFile, StateDir: DefaultStateDir}); out != agreed {
		t.Fatal(out)
	}
}

func TestWhatAChangeMayNot(t *testing.T) {
	base := strings.Replace(fleet, "'''\nprivate'''", "'private'", 1)
	old := mustParse(t, base)
	old.Self = 1
	for what, c := range map[string]struct {
		from, to string
		replace  []membership.NodeID
		words    string
	}{
		"nothing":  {"", "", nil, ""},
		"timing":   {"[state]", "[liveness]\nprofile = \"lan\"\n[state]", nil, ""},
		"name":     {`"tank"`, `"tonk"`, nil, "name cannot be changed while the cluster runs (tank, not tonk)"},
		"port":     {"kernel", "dlm_port = 999\nkernel", nil, "dlm_port cannot be changed"},
		"renamed":  {`name = "beta"`, `name = "gamma"`, nil, "node 2 is beta, not gamma"},
		"id":       {"id = 2", "id = 3", nil, "node beta has id 2, not 3"},
		"moved":    {"10.0.0.2", "10.0.0.9", nil, "quorate node replace beta --addr 10.0.0.9"},
		"replaced": {"10.0.0.2", "10.0.0.9", []membership.NodeID{2}, ""},
		"self":     {"10.0.0.1", "10.0.0.9", []membership.NodeID{1}, "quorate node drain alpha"},
	} {
		text := strings.ReplaceAll(base, c.from, c.to)
		if c.from == "" {
			text = base
		}
		if what == "renamed" {
			text = strings.NewReplacer(`["alpha", "beta"]`, `["alpha", "gamma"]`, "beta = \"2\"", "gamma = \"2\"").Replace(text)
		}
		if what == "id" {
			text = strings.Replace(text, "  2, ", "  3, ", 1)
		}
		err := CheckChange(old, mustParse(t, text), c.replace)
		if c.words == "" && err != nil || c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestNodesAreAddedMovedAndRemoved(t *testing.T) {
	base, err := Replicable(strings.Replace(fleet, "'''\nprivate'''", "'private'", 1))
	if err != nil {
		t.Fatal(err)
	}
	like, err := AddNode(base, NewNode{Name: "gamma", ID: 3, Addrs: []string{"10.0.0.3"}, Like: "beta", Plug: "3"})
	if err != nil {
		t.Fatal(err, like)
	}
	c := mustParse(t, like)
	if n, ok := c.Node(3); !ok || n.Name != "gamma" || len(c.Devices) != 6 {
		t.Fatalf("%+v\n%s", c, like)
	}
	for _, d := range c.Devices {
		if d.Agent == "fence_apc" && d.Nodes[0] == 3 && d.Options["plug"] != "3" {
			t.Fatalf("%+v", d)
		}
	}
	own, err := AddNode(base, NewNode{Name: "gamma", ID: 3, Addrs: []string{"10.0.0.3"}, Agent: "fence_x", Options: []string{"ip=a b", "odd.key=1"}})
	if err == nil {
		t.Fatal("an option that no agent can have:", own)
	}
	own, err = AddNode(base, NewNode{Name: "gamma", ID: 3, Addrs: []string{"10.0.0.3"}, Agent: "fence_x", Options: []string{"ip=a b"}})
	if err != nil || mustParse(t, own).Devices[4].Options["ip"] != "a b" {
		t.Fatal(err, own)
	}
	for _, text := range []string{like, own} {
		gone, err := RemoveNode(text, "gamma")
		if err != nil {
			t.Fatal(err, gone)
		}
		if a, b := mustParse(t, gone), mustParse(t, base); !a.Digest.Equal(b.Digest) {
			t.Fatalf("not as before in %v:\n%s", Diff(a.Digest, b.Digest), gone)
		}
		if strings.Count(gone, "\n\n") != strings.Count(base, "\n\n") || strings.Contains(gone, "\n\n\n") {
			t.Fatalf("it has other empty lines:\n%s", gone)
		}
	}
	moved, err := MoveNode(base, "beta", []string{"10.0.0.7"})
	if err != nil || !strings.Contains(moved, `addr = ["10.0.0.7"] # on the left`) {
		t.Fatal(err, moved)
	}
}

func TestEditsThatCannotBe(t *testing.T) {
	base, _ := Replicable(strings.Replace(fleet, "'''\nprivate'''", "'private'", 1))
	add := func(n NewNode) error { _, err := AddNode(base, n); return err }
	for words, err := range map[string]error{
		"say --plug":                        add(NewNode{Name: "c", ID: 3, Addrs: []string{"10.0.0.3"}, Like: "beta"}),
		`there is no node "delt"`:           add(NewNode{Name: "c", ID: 3, Addrs: []string{"10.0.0.3"}, Like: "delt"}),
		"id 2 is that of node beta":         add(NewNode{Name: "c", ID: 2, Addrs: []string{"10.0.0.3"}, Like: "beta", Plug: "3"}),
		"say how c is cut off: --like NODE": add(NewNode{Name: "c", ID: 3, Addrs: []string{"10.0.0.3"}}),
		"each as key=value":                 add(NewNode{Name: "c", ID: 3, Addrs: []string{"10.0.0.3"}, Agent: "x", Options: []string{"ip"}}),
		"did you mean":                      func() error { _, err := RemoveNode(base, "bete"); return err }(),
		"valid with that: correct what you wrote, or first change what does not go with it, with `quorate config apply`: quorate.toml:": add(NewNode{Name: "c", ID: 3, Addrs: []string{"there"}, Like: "beta", Plug: "3"}),
		"is not an IPv4": func() error { _, err := MoveNode(base, "beta", []string{"there"}); return err }(),
	} {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", words, err)
		}
	}
}

// Whatever sections a text has: a node that is added and removed leaves nothing.
func TestAddedAndRemovedIsAsBefore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		b.WriteString("[cluster]\nname = \"x\"\n")
		n := rapid.IntRange(1, 4).Draw(t, "nodes")
		all := []string{"n1", "n2", "n3", "n4"}[:n]
		sep := rapid.SampledFrom([]string{"\n", "\n# a comment\n\n", ""}).Draw(t, "between")
		for i, name := range all {
			b.WriteString(sep + "[[node]]\nname = \"" + name + "\"\nid = " + string(rune('1'+i)) + "\naddr = [\"10.0.0." + string(rune('1'+i)) + "\"]\n")
		}
		list := `["` + strings.Join(all, rapid.SampledFrom([]string{`", "`, `","`, "\",\n  \""}).Draw(t, "comma")) + rapid.SampledFrom([]string{`"]`, `" ]`, `", ]`, "\", # last\n]"}).Draw(t, "end")
		plugs := ""
		if rapid.Bool().Draw(t, "plugs") {
			plugs = "plugs = { "
			for i, name := range all {
				if i > 0 {
					plugs += ", "
				}
				plugs += name + ` = "` + name + `"`
			}
			plugs += rapid.SampledFrom([]string{" }\n", "}\n", " } # plugs\n"}).Draw(t, "close")
		}
		b.WriteString(sep + "[[fence]]\nnodes = " + list + "\nagent = \"fence_x\"\n" + plugs + "options = { ip = \"{name}\" }" + rapid.SampledFrom([]string{"", "\n", "\n\n# end"}).Draw(t, "tail"))
		before, err := ParseAgreed(b.String())
		if err != nil {
			t.Fatalf("%v\n%s", err, b.String())
		}
		more, err := AddNode(b.String(), NewNode{Name: "new", ID: 9, Addrs: []string{"10.0.0.9"}, Like: all[0], Plug: "9"})
		if err != nil {
			t.Fatalf("%v\n%s", err, more)
		}
		less, err := RemoveNode(more, "9")
		if err != nil {
			t.Fatalf("%v\n%s", err, less)
		}
		after, err := ParseAgreed(less)
		if err != nil || !after.Digest.Equal(before.Digest) {
			t.Fatalf("%v\n%s", err, less)
		}
	})
}

func FuzzReplicable(f *testing.F) {
	f.Add(fleet)
	f.Add(`fence = [{ options = { password = "x", a = [1, {b = 2}] } }]`)
	f.Add("a = [[1,\n2], 'x'] # c\n[b]\n\"q.r\" = {c = 1}")
	f.Fuzz(func(t *testing.T, text string) {
		out, err := Replicable(text)
		if err != nil {
			return
		}
		c, err := ParseAgreed(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range c.Devices {
			for k, v := range d.Options {
				if hidden(k) && v != OwnValue {
					t.Fatalf("%s = %q is in the agreed text", k, v)
				}
			}
		}
	})
}
