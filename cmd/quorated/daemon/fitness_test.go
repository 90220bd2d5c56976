package daemon

import (
	"os"
	"strings"
	"testing"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/fit"
	"github.com/quorate/quorate/cmd/quorated/node"
)

func TestFitness(t *testing.T) {
	good := []control.Reflector{{Mode: "native", Interface: "eth0"}, {Mode: "generic", Interface: "eth1", Why: "native: not possible"}}
	for name, c := range map[string]struct {
		machine string
		weak    []string
		all     []control.Reflector
		want    string
	}{
		"fit":     {"", nil, good, node.Fit},
		"a guest": {"it is a virtual machine", nil, good, "it is a virtual machine"},
		"off":     {"", nil, []control.Reflector{good[0], {Mode: userspace, Why: `[liveness] reflector is "off"`}}, `its daemon answers probes on link 1, and not its kernel: [liveness] reflector is "off"`},
		"weak":    {"", []string{"no real-time priority"}, good, "no real-time priority"},
		"a VLAN":  {"", nil, []control.Reflector{good[0], {Mode: "generic", Interface: "eth0.7", Parent: "eth0"}}, "its links 0 and 1 are on one interface, eth0"},
		"long":    {strings.Repeat("x", 1000), nil, good, strings.Repeat("x", longFit)},
		"none":    {"", nil, nil, "it has one link, and lan wants 2"},
	} {
		if got := fitness(c.machine, c.weak, c.all); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestAutoWhy(t *testing.T) {
	nodes := func(said ...string) (out []control.NodeStatus) {
		for i, x := range said {
			out = append(out, control.NodeStatus{Name: string(rune('a' + i)), Lan: x})
		}
		return out
	}
	for want, said := range map[string][]control.NodeStatus{
		`auto: safe, and all nodes are fit for lan: write profile = "lan" under [liveness], and run "quorate config apply"`: nodes(node.Fit, node.Fit),
		"auto: safe; whether all nodes are fit for lan is not known of b, c":                                                nodes(node.Fit, "", ""),
		"auto: safe; lan is for nodes that are all fit for it: b is not: why":                                               nodes("", "why", node.Fit),
		"auto: safe; lan is for nodes that are all fit for it: a is not: 1; b is not: 2; c is not: 3; and 2 more":           nodes("1", "2", "3", "4", "5"),
	} {
		if got := autoWhy(said); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A node says of itself, and the others of it, whether it is fit. Where the profile is the
// configuration's there is nothing to explain.
func TestFitnessIsTold(t *testing.T) {
	y := newWired(t, 2)
	want := fit.Machine(os.DirFS("/"))
	if want == "" {
		want = "its daemon answers probes on link 0, and not its kernel: "
	}
	for id := range y.procs {
		s := y.until(id, "both have said it", func(s control.Status) bool {
			return len(s.Nodes) == 2 && s.Nodes[0].Lan != "" && s.Nodes[1].Lan != ""
		})
		if s.Profile != "safe" || s.ProfileWhy != "" {
			t.Errorf("node %d: %s: %s", id, s.Profile, s.ProfileWhy)
		}
		for _, n := range s.Nodes {
			if !strings.HasPrefix(n.Lan, want) {
				t.Errorf("node %d of %s: %q, want %q", id, n.Name, n.Lan, want)
			}
		}
	}
}

// With profile "auto" the status says why it is safe; of beta, which is away, nothing is known.
func TestAutoIsExplained(t *testing.T) {
	a := newAlone(t)
	s := a.until("alpha has said it", func(s control.Status) bool { return len(s.Nodes) == 2 && s.Nodes[0].Lan != "" })
	if s.Profile != "safe" || s.ProfileWhy != autoWhy(s.Nodes) || !strings.HasPrefix(s.ProfileWhy, "auto: safe; ") || s.Nodes[1].Lan != "" {
		t.Errorf("%s: %s, %+v", s.Profile, s.ProfileWhy, s.Nodes)
	}
}
