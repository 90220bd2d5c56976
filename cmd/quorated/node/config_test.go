package node

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

// sheet is the text of a configuration.
func sheet(c membership.Config) string {
	c.Self = 0
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func readSheet(text string) (c membership.Config, err error) {
	err = json.Unmarshal([]byte(text), &c)
	return c, err
}

// editor is a holder whose configuration is agreed on.
type editor struct {
	*holder
	effs  []Effect // of the last step
	token uint64
}

func newEditor(t *testing.T) *editor {
	e := &editor{holder: newHolder(t)}
	e.n.conf = &configState{Replicated: Replicated{Text: sheet(e.n.cfg), Parse: readSheet}, agreed: e.n.cfg}
	e.n.quorate = true
	e.step(time.Second, Timer{})
	if e.n.st.Conf.Now.Version != 1 || e.n.conf.Version != 1 {
		t.Fatalf("version %d is agreed, and %d in force", e.n.st.Conf.Now.Version, e.n.conf.Version)
	}
	return e
}

// step gives an input; nobody is heard, and that is no matter here.
func (e *editor) step(at time.Duration, in Input) []Reply {
	e.n.quorate = true
	e.effs = e.n.Step(membership.Mono(at), in)
	return e.replies(e.effs)
}

// entry is what another member has had ordered.
func (e *editor) entry(at time.Duration, c cluster.Command) []Reply {
	e.n.now = membership.Mono(at)
	e.g.index++
	e.n.apply(e.g.index, c)
	e.n.settle()
	e.effs = e.n.take()
	return e.replies(e.effs)
}

func (e *editor) vote(at time.Duration, i int, why string) []Reply {
	return e.entry(at, cluster.Command{ConfigVote: &cluster.ConfigVote{Ask: e.n.st.Conf.Change.Ask, Voter: e.m[i], Why: why}})
}

// effect is the last of a kind that the last step asked for.
func effect[E Effect](e *editor) (last E, ok bool) {
	for _, x := range e.effs {
		if x, is := x.(E); is {
			last, ok = x, true
		}
	}
	return last, ok
}

// change is what is in force with something else.
func (e *editor) change(edit func(*membership.Config)) Operator {
	c := e.n.cfg
	c.Nodes = slices.Clone(c.Nodes)
	edit(&c)
	e.token++
	return Operator{Token: e.token, Command: "config-apply", Text: sheet(c), Version: e.n.st.Conf.Now.Version, Who: "root"}
}

func slower(c *membership.Config) { c.Timing.DeadAfter *= 2 }

func TestAChangeIsCheckedVotedOnAndInForce(t *testing.T) {
	e := newEditor(t)
	if got := e.step(2*time.Second, e.change(slower)); len(got) != 0 {
		t.Fatal(got)
	}
	c, ok := effect[CheckConfig](e)
	if !ok || c.Text != e.n.st.Conf.Change.Text {
		t.Fatal("the edge was not asked")
	}
	e.step(2*time.Second, Timer{})
	if _, again := effect[CheckConfig](e); again {
		t.Fatal("it was asked again")
	}
	e.step(3*time.Second, ConfigChecked{Ask: c.Ask})
	w := e.n.configWaits()
	if len(w) != 2 || w[0].Owner != 2 || w[0].For != "agreement" || w[0].Deadline != 9*time.Second || !strings.Contains(w[0].Reason, "n2 has not said whether it can work by version 2, which root on n1 proposed") {
		t.Fatalf("%+v", w)
	}
	e.vote(4*time.Second, 1, "")
	old := e.n.cfg.Timing.DeadAfter
	e.want(e.vote(4*time.Second, 2, ""), "version 2 is in force")
	r, ok := effect[Reconfigure](e)
	if !ok || r.Version != 2 || r.Text != c.Text || r.Config.Self != 1 || r.Config.Timing.DeadAfter != 2*old {
		t.Fatalf("%+v", r)
	}
	if e.n.cfg.Timing.DeadAfter != 2*old || e.n.conf.Version != 2 || len(e.n.configWaits()) != 0 {
		t.Fatal("it does not work by it")
	}
	if _, ok := e.n.ConfigVersion(1); !ok || len(e.n.ConfigVersions()) != 2 {
		t.Fatal("the former version is not known")
	}
}

func TestAChangeThatCannotBe(t *testing.T) {
	for words, try := range map[string]func(e *editor) []Reply{
		"n2 refuses it: no such agent": func(e *editor) []Reply {
			e.step(2*time.Second, e.change(slower))
			return e.vote(2*time.Second, 1, "no such agent")
		},
		"n1 refuses it: the key is gone": func(e *editor) []Reply {
			e.step(2*time.Second, e.change(slower))
			return e.step(2*time.Second, ConfigChecked{Ask: e.n.st.Conf.Change.Ask, Why: "the key is gone"})
		},
		"n2, n3 did not say within 10s": func(e *editor) []Reply {
			e.step(2*time.Second, e.change(slower))
			e.step(2*time.Second, ConfigChecked{Ask: e.n.st.Conf.Change.Ask})
			return e.step(12*time.Second, Timer{})
		},
		"would be no quorum: 3 of 7 votes": func(e *editor) []Reply {
			return e.step(2*time.Second, e.change(func(c *membership.Config) {
				for i := membership.NodeID(4); i <= 7; i++ {
					c.Nodes = append(c.Nodes, membership.Node{ID: i, Votes: 1})
				}
			}))
		},
		"do not work with a witness": func(e *editor) []Reply {
			e.n.st.Witness = &cluster.Witness{ID: wid, Name: "eye"}
			return e.step(2*time.Second, e.change(func(c *membership.Config) { c.Quorum.LastManStanding = true }))
		},
		"made from version 7, and 1 is in force": func(e *editor) []Reply {
			o := e.change(slower)
			o.Version = 7
			return e.step(2*time.Second, o)
		},
		"invalid character": func(e *editor) []Reply {
			o := e.change(slower)
			o.Text = "name ="
			return e.step(2*time.Second, o)
		},
		"is a member and cannot be removed": func(e *editor) []Reply {
			return e.step(2*time.Second, e.change(func(c *membership.Config) { c.Nodes = c.Nodes[:2] }))
		},
		"not decided within 30s": func(e *editor) []Reply {
			e.g.leader = 0
			e.step(2*time.Second, e.change(slower))
			return e.step(32*time.Second, Timer{})
		},
		"no quorum": func(e *editor) []Reply {
			o := e.change(slower)
			e.n.quorate, e.effs = false, nil
			return e.replies(e.n.Step(membership.Mono(2*time.Second), o))
		},
		"each node's file": func(e *editor) []Reply {
			o := e.change(slower)
			e.n.conf = nil
			return e.step(2*time.Second, o)
		},
		"has not agreed on a configuration yet": func(e *editor) []Reply {
			o := e.change(slower)
			e.n.st.Conf.Now.Version = 0
			return e.step(2*time.Second, o)
		},
	} {
		e := newEditor(t)
		e.want(try(e), words)
		if _, changed := effect[Reconfigure](e); changed || e.n.st.Conf.Now.Version > 1 {
			t.Errorf("%s: and yet it is in force", words)
		}
	}
}

// Where fewer nodes count by now, a change is judged by them.
func TestAChangeOfAClusterThatHasShrunk(t *testing.T) {
	e := newEditor(t)
	e.n.st.View.Members = e.m[:1]
	if v := e.n.countBy(e.n.cfg, e.n.st.View.IDs()); v.Quorate {
		t.Fatalf("one of three: %s", v.Text)
	}
	e.n.st.Electorate = []membership.NodeID{1}
	if v := e.n.countBy(e.n.cfg, e.n.st.View.IDs()); !v.Quorate {
		t.Fatalf("the last one that counts: %s", v.Text)
	}
}

// What the proposal says of the text is held against the text by every member.
func TestAProposalThatIsNotWhatItsTextSays(t *testing.T) {
	e := newEditor(t)
	e.entry(time.Second, cluster.Command{ConfigPropose: &cluster.ConfigPropose{Ask: "x", Base: 1, Text: e.change(slower).Text, Nodes: []membership.NodeID{1, 2, 3, 4}}})
	e.step(2*time.Second, ConfigChecked{Ask: "x"})
	if e.n.st.Conf.Change != nil {
		t.Fatal("it was agreed to")
	}
}

func TestNodesComeAndGoWithTheConfiguration(t *testing.T) {
	e := newEditor(t)
	e.n.peers[3].connected = true
	commit := func(edit func(*membership.Config), replace ...membership.NodeID) {
		t.Helper()
		o := e.change(edit)
		o.Nodes = replace
		e.step(e.n.now.Add(time.Second).Sub(0), o)
		if e.n.st.Conf.Change == nil {
			t.Fatalf("not proposed: %+v", e.replies(e.effs))
		}
		e.step(e.n.now.Sub(0), ConfigChecked{Ask: e.n.st.Conf.Change.Ask})
		for _, m := range e.n.st.View.Members[1:] {
			e.entry(e.n.now.Sub(0), cluster.Command{ConfigVote: &cluster.ConfigVote{Ask: e.n.st.Conf.Change.Ask, Voter: m}})
		}
	}
	commit(func(c *membership.Config) { c.Nodes = append(c.Nodes, membership.Node{ID: 4, Name: "n4", Votes: 1}) })
	if e.n.peers[4] == nil || !e.n.peers[3].connected || e.n.policy.Votes[4] != 1 || len(e.n.peerIDs()) != 3 {
		t.Fatal("node 4 is no peer, or node 3 is forgotten")
	}
	p := &peer{connected: true, hello: &Hello{Config: 0}}
	if why := e.n.behind(p); !strings.Contains(why, "it is given version 2") {
		t.Fatal(why)
	}
	p.hello.Config = 1
	if why := e.n.behind(p); !strings.Contains(why, "works by version 1 of the configuration, and 2 is in force") {
		t.Fatal(why)
	}
	p.hello.Config = 2
	if why := e.n.behind(p); why != "" {
		t.Fatal(why)
	}
	commit(func(c *membership.Config) { c.Nodes = c.Nodes[:3] })
	if e.n.peers[4] != nil || e.n.policy.Votes[4] != 0 {
		t.Fatal("node 4 is a peer still")
	}
}

// A node that finds itself configured no more ends, and a machine whose kernel holds something does.
func TestARemovedNodeEnds(t *testing.T) {
	e := newEditor(t)
	c := e.n.cfg
	c.Nodes = c.Nodes[1:]
	e.n.st.Conf.Now = cluster.Config{Version: 5, Text: sheet(c)}
	e.n.followConfig()
	e.effs = e.n.take()
	if x, ok := effect[Exit](e); !ok || !x.Clean || !strings.Contains(x.Why, "quorate node add") {
		t.Fatalf("%+v", e.effs)
	}
}

// What was agreed on and cannot be read stops the machine: it would judge otherwise than the others.
func TestAnAgreedTextThatCannotBeReadStopsTheMachine(t *testing.T) {
	e := newEditor(t)
	e.n.st.Conf.Now = cluster.Config{Version: 5, Text: "{"}
	e.n.followConfig()
	e.effs = e.n.take()
	if x, ok := effect[Exit](e); !ok || x.Clean || !strings.Contains(x.Why, "install the version that the others have") {
		t.Fatalf("%+v", e.effs)
	}
}

// A machine that starts with a newer version than its log has works by that, and
// judges old entries by the version of their time.
func TestANewerVersionFromTheDiskIsKept(t *testing.T) {
	e := newEditor(t)
	newer := e.n.cfg
	newer.Nodes = append(slices.Clone(newer.Nodes), membership.Node{ID: 4, Name: "n4", Votes: 1})
	e.n.conf.Version, e.n.cfg = 3, newer
	e.n.followConfig()
	if len(e.n.cfg.Nodes) != 4 || e.n.conf.Version != 3 {
		t.Fatal("it went back")
	}
	if e.n.quorum([]membership.NodeID{1, 2}) != true {
		t.Fatal("two of three are a quorum by version 1")
	}
}

func TestADrainedNodeLeavesWhenNothingIsInUse(t *testing.T) {
	e := newEditor(t)
	e.want(e.step(2*time.Second, Operator{Token: 3, Command: "undrain", Node: 1}), "n1 is not drained")
	e.want(e.step(2*time.Second, Operator{Token: 3, Command: "drain", Node: 9}), "9 is not a member")
	e.want(e.step(2*time.Second, Operator{Token: 3, Command: "drain", Node: 1, Who: "root"}), "n1 mounts nothing new and leaves")
	if _, ok := effect[Quiesce](e); !ok || e.n.draining() == "" {
		t.Fatal("it does not begin to leave")
	}
	ws := e.n.drainWaits()
	if len(ws) != 1 || ws[0].For != "unmount" || ws[0].Owner != 1 || !strings.Contains(ws[0].Reason, "about to leave") {
		t.Fatalf("%+v", ws)
	}
	e.want(e.step(2*time.Second, Operator{Token: 4, Command: "drain", Node: 1}), "is drained already")
	e.want(e.step(3*time.Second, Operator{Token: 5, Command: "undrain", Node: 1}), "n1 stays")
	if _, ok := effect[Reopen](e); !ok || e.n.draining() != "" || e.n.leaving != nil {
		t.Fatal("it leaves all the same")
	}
	e.want(e.step(4*time.Second, Operator{Token: 6, Command: "drain", Node: 1, Who: "root"}), "leaves when nothing")
	e.step(4500*time.Millisecond, Quiesced{Held: []string{"gfs"}}) // slipped in
	if e.n.leaving != nil {
		t.Fatal("it leaves with a lockspace")
	}
	e.step(7*time.Second, Timer{})
	e.step(7*time.Second, Quiesced{})
	if x, ok := effect[Exit](e); !ok || !x.Clean {
		t.Fatalf("%+v", e.effs)
	}
	if e.n.st.Draining(e.m[0]) != nil {
		t.Fatal("it is drained still")
	}
	e.want(e.step(8*time.Second, Operator{Token: 7, Command: "undrain", Node: 1}), "n1 has left already, and a drain ends with that: start quorated there")
}

// When a drain was agreed is known of the one that stands, and not of one before it.
func TestADrainThatIsOverIsNotRemembered(t *testing.T) {
	e := newEditor(t)
	at := 2 * time.Second
	do := func(command string) {
		t.Helper()
		at += time.Second
		e.step(at, Operator{Token: uint64(at), Command: command, Node: 1, Who: "root"})
	}
	drained := func() []byte {
		t.Helper()
		do("drain")
		if e.n.draining() == "" || e.n.drainedAt != e.g.index {
			t.Fatalf("it was drained at %d, and not at %d", e.g.index, e.n.drainedAt)
		}
		b, err := e.n.State()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := drained()
	if do("undrain"); e.n.drainedAt != 0 {
		t.Errorf("it is not drained, at %d", e.n.drainedAt)
	}
	drained()
	was := e.n.drainedAt
	e.entry(at, cluster.Command{By: e.m[1], Drain: &cluster.Drain{Incarnation: e.m[1], Who: "root"}})
	e.entry(at, cluster.Command{By: e.m[1], DrainEnd: &cluster.DrainEnd{Incarnation: e.m[1]}})
	if e.n.drainedAt != was {
		t.Errorf("with another's drain it was drained at %d, and not at %d", e.n.drainedAt, was)
	}
	if e.n.restore(membership.GroupRestore{Index: 50, State: b}); e.n.draining() == "" || e.n.drainedAt != 0 {
		t.Errorf("the snapshot's drain, of which nobody knows when, is as of %d", e.n.drainedAt)
	}
}

func TestWaitsOfChangesHoldNothingUp(t *testing.T) {
	e := newEditor(t)
	e.step(2*time.Second, e.change(slower))
	s := e.n.Status(e.n.now, nil)
	if s.Config != 1 || !slices.ContainsFunc(s.Waits, func(w control.Wait) bool { return w.For == "agreement" }) {
		t.Fatalf("%d, %+v", s.Config, s.Waits)
	}
}

// The witness is with every set in this, too: a node that is left with it may change the configuration.
func TestAChangeBesideAWitness(t *testing.T) {
	y := newWitnessed(t)
	cfg := y.n.cfg
	y.n.conf = &configState{Replicated: Replicated{Text: sheet(cfg), Parse: readSheet}, agreed: cfg}
	y.n.st.Witness = &cluster.Witness{ID: wid, Name: "eye"}
	y.n.st.View.Members = y.n.st.View.Members[:1]
	three := cfg
	three.Nodes = append(slices.Clone(cfg.Nodes), membership.Node{ID: 3, Name: "n3", Votes: 1})
	one := cfg
	one.Nodes = cfg.Nodes[:1]
	for _, x := range []struct {
		what string
		want membership.Config
		gone bool // the witness
		why  string
	}{
		{what: "the same nodes", want: cfg},
		{what: "one node less", want: one},
		{what: "one node more", want: three, why: "2 of 4 votes, 3 needed"},
		{what: "without the witness", want: cfg, gone: true, why: "1 of 2 votes, 2 needed"},
	} {
		if x.gone {
			y.n.st.Witness = nil
		}
		y.n.conf.want = x.want
		if why := y.n.unquorate(); (why == "") != (x.why == "") || !strings.Contains(why, x.why) {
			t.Errorf("%s: refused for %q, want %q", x.what, why, x.why)
		}
	}
}

// What the agreement says of nodes by their ids is told by their names.
func TestRefusalsNameNodes(t *testing.T) {
	e := newEditor(t)
	for text, want := range map[string]string{
		"node 3 is a member":                    "n3 is a member",
		"node 2 is being switched on by node 1": "n2 is being switched on by n1",
		"node 77 is not configured":             "node 77 is not configured",
		"node 99999999999 and a node":           "node 99999999999 and a node",
	} {
		if got := e.n.named(text); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The history names a node that was removed as it was called then.
func TestTheHistoryNamesWhoWasRemoved(t *testing.T) {
	e := newEditor(t)
	e.n.st.History = []cluster.Record{{Victim: membership.Incarnation{Node: 3}, How: "manual", OK: true}, {Victim: membership.Incarnation{Node: 2}}, {Victim: membership.Incarnation{Node: 9}}}
	left := e.n.cfg
	left.Nodes = slices.DeleteFunc(slices.Clone(left.Nodes), func(n membership.Node) bool { return n.ID == 3 })
	e.n.st.Conf.Past = append(e.n.st.Conf.Past, e.n.st.Conf.Now)
	e.n.cfg = left
	var names []string
	for _, h := range e.n.History() {
		names = append(names, h.Name)
	}
	if !slices.Equal(names, []string{"n3", "", ""}) {
		t.Errorf("%q", names)
	}
	// Everybody may ask, as often as he likes, and the loop that agrees answers.
	e.n.conf.Parse = func(string) (membership.Config, error) {
		t.Error("a version is read once more")
		return membership.Config{}, nil
	}
	e.n.History()
}
