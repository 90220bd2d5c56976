package quorum

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership"
)

func ids(ns ...membership.NodeID) []membership.NodeID { return ns }

func TestMajority(t *testing.T) {
	for _, c := range []struct {
		nodes, have []membership.NodeID
		want        bool
		text        string
	}{
		{ids(1), ids(1), true, "1 of 1 votes, 1 needed"},
		{ids(1, 2), ids(1), false, "1 of 2 votes, 2 needed: 1 missing"},
		{ids(1, 2), ids(1, 2), true, "2 of 2 votes, 2 needed"},
		{ids(1, 2, 3), ids(1, 3), true, "2 of 3 votes, 2 needed"},
		{ids(1, 2, 3, 4), ids(1, 2), false, "2 of 4 votes, 3 needed: 1 missing"},
		{ids(1, 2, 3, 4, 5), ids(1), false, "1 of 5 votes, 3 needed: 2 missing"},
		{ids(1, 2, 3), ids(1, 1, 1), false, "1 of 3 votes, 2 needed: 1 missing"},
		{ids(1, 2, 3), ids(1, 7, 9), false, "1 of 3 votes, 2 needed: 1 missing"},
		{ids(1, 2, 3), nil, false, "0 of 3 votes, 2 needed: 2 missing"},
		{nil, ids(1), false, "no node has a vote"},
	} {
		v := Majority(c.nodes...).Quorate(c.have)
		if v.Quorate != c.want || v.Text != c.text {
			t.Errorf("nodes %v, have %v: %+v, want %v %q", c.nodes, c.have, v, c.want, c.text)
		}
	}
}

func TestZeroPolicyIsNeverQuorate(t *testing.T) {
	if v := (Policy{}).Quorate(ids(1, 2, 3)); v.Quorate {
		t.Errorf("%+v", v)
	}
}

func TestAllIsEveryVote(t *testing.T) {
	for _, c := range []struct {
		nodes, have []membership.NodeID
		want        bool
		text        string
	}{
		{ids(1), ids(1), true, "1 of 1 votes, 1 needed"},
		{ids(1, 2, 3), ids(1, 3), false, "2 of 3 votes, 3 needed: 1 missing"},
		{ids(1, 2, 3), ids(3, 2, 1), true, "3 of 3 votes, 3 needed"},
		{ids(2), ids(1, 3), false, "0 of 1 votes, 1 needed: 1 missing"},
		{nil, ids(1), false, "no node has a vote"},
		{nil, nil, false, "no node has a vote"},
	} {
		p := Majority(c.nodes...)
		p.All, p.Expected = true, 9
		if v := p.Quorate(c.have); v.Quorate != c.want || v.Text != c.text {
			t.Errorf("nodes %v, have %v: %+v, want %v %q", c.nodes, c.have, v, c.want, c.text)
		}
	}
}

func TestVerdictJSON(t *testing.T) {
	b, err := json.Marshal(Majority(1, 2, 3).Quorate(ids(1, 2)))
	want := `{"quorate":true,"have":2,"needed":2,"expected":3,"text":"2 of 3 votes, 2 needed"}`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v; want %s", b, err, want)
	}
}

func genPolicy(t *rapid.T) Policy {
	p := Policy{Votes: map[membership.NodeID]int{}}
	for range rapid.IntRange(0, 8).Draw(t, "nodes") {
		p.Votes[membership.NodeID(rapid.IntRange(1, 12).Draw(t, "id"))] = rapid.IntRange(-1, 4).Draw(t, "votes")
	}
	if rapid.Bool().Draw(t, "expected set") {
		p.Expected = rapid.IntRange(0, 40).Draw(t, "expected")
	}
	return p
}

func genSet(t *rapid.T) []membership.NodeID {
	return rapid.SliceOfN(rapid.Map(rapid.IntRange(0, 13), func(n int) membership.NodeID { return membership.NodeID(n) }), 0, 16).Draw(t, "set")
}

// dumb lays every vote on a table as one token, and takes the tokens of the set
// away one for one: quorate if fewer are left than were taken.
func dumb(p Policy, have []membership.NodeID) bool {
	var table []membership.NodeID
	for n := membership.NodeID(0); n < 20; n++ {
		for v := 0; v < p.Votes[n]; v++ {
			table = append(table, n)
		}
	}
	for len(table) < p.Expected {
		table = append(table, 99) // of nodes to come
	}
	taken, left := 0, 0
	for _, n := range table {
		in := false
		for _, h := range have {
			in = in || h == n
		}
		if in {
			taken++
		} else {
			left++
		}
	}
	return taken > left
}

func TestAgainstDumb(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, have := genPolicy(t), genSet(t)
		if got, want := p.Quorate(have), dumb(p, have); got.Quorate != want {
			t.Fatalf("%+v of %v: %+v, want %v", p, have, got, want)
		}
	})
}

// Two sets without a common node are never both quorate.
func TestQuorumsMeet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := genPolicy(t)
		var a, b []membership.NodeID
		for n := membership.NodeID(1); n < 14; n++ {
			switch rapid.IntRange(0, 2).Draw(t, "side") {
			case 0:
				a = append(a, n)
			case 1:
				b = append(b, n)
			}
		}
		if p.Quorate(a).Quorate && p.Quorate(b).Quorate {
			t.Fatalf("%+v: %v and %v are both quorate", p, a, b)
		}
	})
}

// More nodes never lose quorum; order and repetition do not matter.
func TestMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, a, b := genPolicy(t), genSet(t), genSet(t)
		both := append(append([]membership.NodeID{}, a...), b...)
		if p.Quorate(a).Quorate && !p.Quorate(both).Quorate {
			t.Fatalf("%v is quorate, %v is not", a, both)
		}
		if p.Quorate(append(append([]membership.NodeID{}, b...), a...)) != p.Quorate(both) {
			t.Fatalf("order matters for %v, %v", a, b)
		}
	})
}

func TestExpectedNeverLowers(t *testing.T) {
	p := Majority(1, 2, 3, 4, 5)
	p.Expected = 2
	if v := p.Quorate(ids(1, 2)); v.Quorate || v.Expected != 5 {
		t.Errorf("%+v", v)
	}
	p.Expected = 9
	if v := p.Quorate(ids(1, 2, 3, 4)); v.Quorate || v.Needed != 5 {
		t.Errorf("%+v", v)
	}
}

func TestCheck(t *testing.T) {
	if err := Majority(1, 2, 3).Check(); err != nil {
		t.Error(err)
	}
	for want, p := range map[string]Policy{
		"no node has a vote":           {},
		"node ids begin at 1":          Majority(0, 1),
		"node 2 has -1 votes":          {Votes: map[membership.NodeID]int{1: 1, 2: -1}},
		"node 1 has 65537 votes":       {Votes: map[membership.NodeID]int{1: MaxVotes + 1, 2: 1}},
		"lower expected votes below 6": {Votes: map[membership.NodeID]int{1: 1, 2: 1, 3: 1}, Expected: 6},
	} {
		err := p.Check()
		if !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", p, err, want)
		}
	}
}

// What Check accepts can become quorate.
func TestCheckedPolicyCanWork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := genPolicy(t)
		var all []membership.NodeID
		for n := membership.NodeID(1); n < 14; n++ {
			all = append(all, n)
		}
		if p.Check() == nil && !p.Quorate(all).Quorate {
			t.Fatalf("%+v passes and is never quorate", p)
		}
	})
}
