package rotation

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

// name is a key of an epoch whose fingerprint is of one letter.
func name(epoch uint32, letter string) Key {
	return Key{epoch, strings.Repeat(letter, PrintLen)}
}

var (
	k1 = name(1, "1")
	k2 = name(2, "a")
	k3 = name(3, "b")
)

// rig is node 1 of three, told by hand what the others say.
type rig struct {
	t   *testing.T
	m   *Machine
	now membership.Mono
	out []Effect
}

func newRig(t *testing.T, keys ...Key) *rig {
	r := &rig{t: t, m: New(1, []membership.NodeID{1, 2, 3}, 1), now: 1}
	r.give(Loaded{Keys: keys})
	for _, id := range []membership.NodeID{2, 3} {
		r.says(id, nil, k1)
	}
	return r
}

func (r *rig) give(in Input) { r.out = append(r.out, r.m.Step(r.now, in)...) }

func (r *rig) says(id membership.NodeID, plan *Plan, keys ...Key) {
	r.give(Up{id})
	r.give(Heard{id, Word{Keys: keys, Plan: plan}})
}

func (r *rig) after(d time.Duration) {
	r.now = r.now.Add(d)
	r.give(Tick{})
}

// wants looks at what was asked for since the last time.
func (r *rig) wants(want ...Effect) {
	r.t.Helper()
	if len(r.out) != len(want) || !slices.Equal(r.out, want) {
		r.t.Fatalf("asked for %+v, not %+v", r.out, want)
	}
	r.out = nil
}

func (r *rig) stage(s Stage, of ...membership.NodeID) {
	r.t.Helper()
	if _, got, who := r.m.Progress(); got != s || !slices.Equal(who, of) {
		r.t.Fatalf("%v, waiting for %v; want %v, %v", got, who, s, of)
	}
}

func TestARotation(t *testing.T) { // S26
	r := newRig(t, k1)
	r.stage(Idle)
	if epoch, err := r.m.CanRotate(); err != nil || epoch != 2 {
		t.Fatal(epoch, err)
	}
	r.give(Loaded{Keys: []Key{k1, k2}})
	r.wants()
	r.give(Begin{Plan{Key: k2}})
	r.wants(Hand{2, k2}, Hand{3, k2})
	r.stage(Spreading, 2, 3)
	r.after(500 * time.Millisecond)
	r.wants()
	r.after(500 * time.Millisecond)
	r.wants(Hand{2, k2}, Hand{3, k2}) // it may have been lost
	r.says(2, nil, k1, k2)
	r.give(Down{3})
	r.after(time.Hour)
	r.wants()
	r.stage(Spreading, 3)
	r.says(3, nil, k1)
	r.wants(Hand{3, k2})
	r.says(3, nil, k1, k2)
	r.wants(Switch{k2})
	r.after(time.Minute)
	r.wants() // one at a time
	r.give(Loaded{Keys: []Key{k2, k1}})
	r.stage(Switching, 2, 3)
	r.says(2, nil, k2, k1)
	r.after(time.Hour)
	r.wants()
	r.says(3, nil, k2, k1)
	r.stage(Dropping)
	r.after(DropAfter - 1)
	r.wants()
	r.after(1)
	r.wants(Drop{k1})
	r.give(Loaded{Keys: []Key{k2}})
	r.stage(Idle)
	r.says(2, &Plan{Key: k2}, k2, k1) // it is not done yet; we are
	r.stage(Idle)
	r.wants()
}

// What was said once counts when its node is away: it is durable.
func TestWhoHasItMayBeAway(t *testing.T) {
	r := newRig(t, k1, k2)
	r.give(Begin{Plan{Key: k2}})
	r.says(2, nil, k1, k2)
	r.give(Down{2})
	r.out = nil
	r.says(3, nil, k1, k2)
	r.wants(Switch{k2})
	r.give(Loaded{Keys: []Key{k2, k1}})
	r.says(3, nil, k2, k1)
	r.after(time.Hour)
	r.wants()
	r.stage(Switching, 2) // but it sends with the old one
}

// On a new connection what was said on the one before does not count: the daemon
// may be another.
func TestANewConnectionBeginsAnew(t *testing.T) {
	r := newRig(t, k1, k2)
	r.give(Begin{Plan{Key: k2}})
	r.says(2, nil, k1, k2)
	r.give(Up{2})
	r.out = nil
	r.says(3, nil, k1, k2)
	r.wants()
	r.stage(Spreading, 2)
	r.give(Heard{2, Word{Keys: []Key{k1, k2}}})
	r.wants(Switch{k2})
}

// By force those are left out who have been away for long enough, and nobody else.
func TestByForce(t *testing.T) {
	r := newRig(t, k1, k2)
	r.give(Begin{Plan{Key: k2}})
	r.give(Begin{Plan{Key: k2, Now: true}})
	r.says(2, nil, k1, k2)
	r.out = nil
	r.after(time.Hour)
	r.wants(Hand{3, k2}) // it is connected
	r.give(Down{3})
	r.after(AbsentAfter - 1)
	r.wants()
	r.after(1)
	r.wants(Switch{k2})
	r.give(Loaded{Keys: []Key{k2, k1}})
	r.says(2, &Plan{Key: k2, Now: true}, k2, k1)
	r.after(time.Hour)
	r.wants() // the old one stays for it
	r.stage(Switching, 3)
	if _, err := r.m.CanDrop(1, false); err == nil || !strings.Contains(err.Error(), "key 1 (11111111) may still be what they send with (nodes [3])") || !strings.Contains(err.Error(), "`quorate key drop 1 --force` leaves out") {
		t.Error(err)
	}
	k, err := r.m.CanDrop(1, true)
	if err != nil {
		t.Fatal(err)
	}
	r.give(Discard{k})
	r.wants(Retract{2, k1})
	r.says(2, nil, k2)
	r.wants(Drop{k1})
}

// A plan comes with the others' words, and is done without having been begun here.
func TestAPlanSpreads(t *testing.T) {
	r := newRig(t, k1)
	r.says(2, &Plan{Key: k2}, k1, k2)
	r.stage(Awaiting, 1)
	r.wants()
	if _, err := r.m.CanRotate(); err == nil || !strings.Contains(err.Error(), "on its way already") || !strings.Contains(err.Error(), "`quorate key drop 2`") {
		t.Error(err)
	}
	r.give(Loaded{Keys: []Key{k1, k2}, Rotated: []Key{k2}})
	r.wants(Hand{3, k2})
	if w := r.m.Word(); w.Plan == nil || w.Plan.Key != k2 || w.Plan.Now {
		t.Errorf("it says %+v", w)
	}
	r.says(3, &Plan{Key: k2, Now: true}, k1, k2)
	r.wants(Switch{k2})
	if !r.m.Word().Plan.Now {
		t.Error("an operator's force elsewhere was not heard")
	}
}

// A daemon that starts in the middle goes on by the marks in its file.
func TestAStartInTheMiddle(t *testing.T) {
	for name, c := range map[string]struct {
		keys, rotated []Key
		stage         Stage
	}{
		"one key":            {[]Key{k2}, []Key{k2}, Idle},
		"loaded by hand":     {[]Key{k1, k2}, nil, Idle},
		"before the switch":  {[]Key{k1, k2}, []Key{k2}, Spreading},
		"after it":           {[]Key{k2, k1}, []Key{k2}, Switching},
		"two of them":        {[]Key{k2, k1, k3}, []Key{k2, k3}, Spreading},
		"an old one was one": {[]Key{k2, k3}, []Key{k2}, Idle},
	} {
		m := New(1, []membership.NodeID{2}, 1)
		m.Step(1, Loaded{Keys: c.keys, Rotated: c.rotated})
		if _, got, _ := m.Progress(); got != c.stage {
			t.Errorf("%s: %v, want %v", name, got, c.stage)
		}
	}
}

// A change that failed is tried again, not at once, and its reason is said.
func TestAChangeThatFails(t *testing.T) {
	r := newRig(t, k1, k2)
	r.says(2, nil, k1, k2)
	r.says(3, nil, k1, k2)
	r.give(Begin{Plan{Key: k2}})
	r.wants(Switch{k2})
	r.give(Loaded{Keys: []Key{k1, k2}, Err: "read-only file system"})
	if w := r.m.Word(); w.Err != "read-only file system" {
		t.Errorf("%+v", w)
	}
	r.after(retry - 1)
	r.wants()
	r.after(1)
	r.wants(Switch{k2})
	r.give(Loaded{Keys: []Key{k2, k1}})
	if w := r.m.Word(); w.Err != "" {
		t.Errorf("%+v", w)
	}
}

// What is taken back is gone when nobody who is connected can begin to send with it.
func TestADiscard(t *testing.T) {
	r := newRig(t, k1, k2)
	r.says(2, nil, k1, k2)
	r.give(Begin{Plan{Key: k2}})
	r.out = nil
	k, err := r.m.CanDrop(2, false)
	if err != nil {
		t.Fatal(err)
	}
	r.give(Discard{k})
	r.wants(Retract{2, k2})
	r.stage(Idle)
	if w := r.m.Word(); !slices.Equal(w.Keys, []Key{k1}) {
		t.Errorf("it says that it has %v", w.Keys)
	}
	r.after(time.Second)
	r.wants(Retract{2, k2})
	r.says(2, nil, k1)
	r.wants(Drop{k2})
	r.give(Loaded{Keys: []Key{k1}})
	if !r.m.Discarded(k2) {
		t.Error("it would be taken again")
	}
	r.says(3, &Plan{Key: k2}, k1, k2) // it was away
	r.stage(Idle)
	if epoch, err := r.m.CanRotate(); err != nil || epoch != 3 {
		t.Error(epoch, err)
	}
	r.give(Loaded{Keys: []Key{k1, k2}, Read: true}) // an operator wants it after all
	if r.m.Discarded(k2) {
		t.Error("an operator's file does not count")
	}
}

// Too late: somebody has begun to send with it. So do all.
func TestADiscardThatComesTooLate(t *testing.T) {
	r := newRig(t, k1, k2)
	r.says(2, nil, k1, k2)
	r.says(3, nil, k1, k2)
	r.out = nil
	r.give(Discard{k2})
	r.says(2, nil, k2, k1)
	r.stage(Switching, 1)
	r.out = nil
	r.give(Heard{3, Word{Keys: []Key{k1, k2}}})
	r.give(Loaded{Keys: []Key{k2, k1}})
	r.stage(Switching, 3)
	r.give(Discard{k2}) // of a peer that has not heard
	if r.m.Discarded(k2) || r.m.Word().Keys[0] != k2 {
		t.Error("what it sends with was discarded")
	}
}

func TestOperatorsAreRefused(t *testing.T) {
	r := newRig(t, k1)
	for what, c := range map[string]struct {
		err   error
		words string
		nodes []membership.NodeID
	}{
		"none":       {second(r.m.CanDrop(7, true)), "no key of epoch 7", nil},
		"own":        {second(r.m.CanDrop(1, true)), "this node sends with key 1", nil},
		"no newer":   {second(r.m.CanSwitch()), "quorate key rotate", nil},
		"not loaded": {r.m.CanLoad([]Key{k2, k1}), "not loaded everywhere", []membership.NodeID{2, 3}},
		"cut off":    {r.m.CanLoad([]Key{k2}), "not loaded everywhere", []membership.NodeID{2, 3}},
	} {
		var e *RefusedError
		if !errors.As(c.err, &e) || !strings.Contains(e.Error(), c.words) || !slices.Equal(e.Nodes, c.nodes) || e.Do == "" {
			t.Errorf("%s: %v", what, c.err)
		}
	}
	if err := r.m.CanLoad([]Key{k1, k2}); err != nil {
		t.Error(err)
	}
	r.says(2, nil, k2, k1)
	r.says(3, nil, k1, k2)
	r.give(Loaded{Keys: []Key{k1, k2, k3, name(4, "c")}})
	for what, c := range map[string]struct {
		err   error
		words string
	}{
		"others send with it": {second(r.m.CanDrop(2, true)), "others send with (nodes [2])"},
		"it lacks theirs":     {r.m.CanLoad([]Key{k1}), "lacks a key that others send with (nodes [2])"},
		"four":                {second(r.m.CanRotate()), "4 keys are loaded"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.words) {
			t.Errorf("%s: %v", what, c.err)
		}
	}
	if k, err := r.m.CanSwitch(); err != nil || k.Epoch != 4 {
		t.Error(k, err)
	}
	r.give(Loaded{Keys: []Key{name(1<<32-1, "d")}})
	if _, err := r.m.CanRotate(); err == nil || !strings.Contains(err.Error(), "no epoch after") {
		t.Error(err)
	}
}

// What helps to be rid of a key is never what would leave it where it is.
func TestInsteadOfAKey(t *testing.T) {
	for name, c := range map[string]struct {
		keys []Key
		plan *Plan
		drop uint32
		want string
	}{
		"own, alone":                 {[]Key{k1}, nil, 1, "`quorate key rotate`"},
		"own, a newer one is loaded": {[]Key{k1, k2}, nil, 1, "`quorate key switch`"},
		"own, one takes over":        {[]Key{k1, k2}, &Plan{Key: k2}, 1, "goes by itself when all send with key 2"},
		"theirs, takes over":         {[]Key{k1, k2}, &Plan{Key: k2}, 2, "cannot be taken back any more: when it has"},
		"theirs, by hand":            {[]Key{k1, k2}, nil, 2, "cannot be taken back any more: have it take over here"},
		"theirs, a newer one here":   {[]Key{k3, k2}, nil, 2, "`quorate key switch`"},
	} {
		r := newRig(t, c.keys...)
		r.says(2, nil, k2, k1)
		if c.drop == 1 {
			r.says(2, nil, k1)
		}
		if c.plan != nil {
			r.give(Begin{*c.plan})
		}
		if _, err := r.m.CanDrop(c.drop, true); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := newRig(t, k1, k2)
	r.says(2, nil, k1, k2)
	r.give(Down{2})
	if _, err := r.m.CanDrop(2, false); err == nil || !strings.Contains(err.Error(), "not known whether they have begun to send with key 2") {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestAdmit(t *testing.T) {
	a2, b2, c2 := name(2, "a"), name(2, "b"), name(2, "c")
	for name, c := range map[string]struct {
		have    []Key
		k       Key
		take    bool
		replace Key
		err     string
	}{
		"new":                 {[]Key{k1}, a2, true, Key{}, ""},
		"had":                 {[]Key{k1, a2}, a2, false, Key{}, ""},
		"greater":             {[]Key{k1, b2}, c2, true, b2, ""},
		"smaller":             {[]Key{k1, b2}, a2, false, Key{}, ""},
		"in use":              {[]Key{b2, k1}, c2, false, Key{}, "sends with another key of epoch 2"},
		"older":               {[]Key{k1, k3}, a2, false, Key{}, "is newer than 2"},
		"full":                {[]Key{k1, a2, k3, {4, "x"}}, Key{5, "x"}, false, Key{}, "4 keys are loaded"},
		"full, takes a place": {[]Key{k1, a2, k3, {4, "x"}}, Key{4, "y"}, true, Key{4, "x"}, ""},
	} {
		take, replace, err := Admit(c.have, c.k)
		if take != c.take || replace != c.replace || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v %v %v", name, take, replace, err)
		}
	}
}

func TestWords(t *testing.T) {
	good := Word{Keys: []Key{k2, k1}, Plan: &Plan{Key: k2}, Err: "x"}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, w := range map[string]Word{
		"none":       {},
		"five":       {Keys: []Key{name(1, "a"), name(2, "a"), name(3, "a"), name(4, "a"), name(5, "a")}},
		"twice":      {Keys: []Key{k2, name(2, "b")}},
		"epoch 0":    {Keys: []Key{name(0, "a")}},
		"short":      {Keys: []Key{{1, "abc"}}},
		"no number":  {Keys: []Key{name(1, "G")}},
		"bad plan":   {Keys: []Key{k1}, Plan: &Plan{}},
		"long error": {Keys: []Key{k1}, Err: strings.Repeat("x", maxErr+1)},
	} {
		if err := w.Check(); !errors.Is(err, ErrWord) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s := fmt.Sprint(k2); s != "2 (aaaaaaaa)" {
		t.Error(s)
	}
}

// Nothing is said, or done, by who has nothing loaded, nor of nodes that are not configured.
func TestNothing(t *testing.T) {
	m := New(1, []membership.NodeID{1, 2, 2}, 1)
	for _, in := range []Input{Tick{}, Up{2}, Up{9}, Heard{2, Word{Keys: []Key{k1}, Plan: &Plan{Key: k2}}}, Heard{9, Word{Keys: []Key{k1}}}, Down{9}, Discard{k1}} {
		if out := m.Step(1, in); len(out) != 0 {
			t.Errorf("%T: %v", in, out)
		}
	}
	if m.Word() != nil || len(m.States()) != 2 || m.Away(9) != 0 {
		t.Error(m.Word(), m.States())
	}
	if _, err := m.CanSwitch(); err != nil {
		t.Error(err) // the plan that it has heard of
	}
}

// Who is not configured any more is not waited for, and who is new is.
func TestNodesChange(t *testing.T) {
	m := New(1, []membership.NodeID{1, 2, 3}, 1)
	m.SetNodes([]membership.NodeID{1, 3, 4}, 2)
	if got := m.order; len(got) != 2 || got[0] != 3 || got[1] != 4 || len(m.peers) != 2 {
		t.Fatalf("%v, %v", got, m.peers)
	}
}
