package node

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/rotation"
)

func keyOf(epoch uint32, letter string) rotation.Key {
	return rotation.Key{Epoch: epoch, Print: strings.Repeat(letter, rotation.PrintLen)}
}

var key1, key2 = keyOf(1, "1"), keyOf(2, "a")

// turner is node 1 of three, with one key.
type turner struct {
	*holder
	effs []Effect
}

func newTurner(t *testing.T) *turner {
	x := &turner{holder: newHolder(t)}
	x.n.rotate(rotation.Loaded{Keys: []rotation.Key{key1}})
	return x
}

// give steps the machine and keeps the effects.
func (x *turner) give(at time.Duration, in Input) {
	x.effs = append(x.effs, x.n.Step(membership.Mono(at), in)...)
}

// says is a peer's hello on a new connection.
func (x *turner) says(at time.Duration, from membership.NodeID, w *rotation.Word) {
	x.give(at, Connected{Peer: from})
	b, err := json.Marshal(Hello{Protocol: Protocol, Boot: "b", Instance: 5, Keys: w})
	if err != nil {
		x.t.Fatal(err)
	}
	x.give(at, Received{From: from, Data: envelope(kindHello, b)})
}

// took returns the effects of a type, and forgets all.
func took[E Effect](x *turner) (out []E) {
	for _, e := range x.effs {
		if e, ok := e.(E); ok {
			out = append(out, e)
		}
	}
	x.effs = nil
	return out
}

// hellos are the words that node 1 said to a peer since the last look.
func (x *turner) hellos(to membership.NodeID) (out []rotation.Word) {
	x.t.Helper()
	for _, e := range took[Send](x) {
		if e.To == to && e.Data[0] == kindHello {
			h, err := DecodeHello(e.Data[1:])
			if err != nil || h.Keys == nil {
				x.t.Fatal(h, err)
			}
			out = append(out, *h.Keys)
		}
	}
	return out
}

func (x *turner) rotate(at time.Duration) {
	x.t.Helper()
	x.give(at, Operator{Token: 7, Command: "key-rotate", Who: "root"})
	d := took[DrawKey](x)
	if len(d) != 1 || d[0].Epoch != 2 || d[0].Token != 7 {
		x.t.Fatalf("%+v", d)
	}
	x.give(at, Keys{Token: 7, Begin: &rotation.Plan{Key: key2}, Loaded: rotation.Loaded{Keys: []rotation.Key{key1, key2}}})
}

// The whole way at one node: what it draws, says, hands over, switches to, and drops.
func TestAKeyIsRotated(t *testing.T) {
	x := newTurner(t)
	one := &rotation.Word{Keys: []rotation.Key{key1}}
	x.says(time.Second, 2, one)
	x.says(time.Second, 3, one)
	took[Send](x)
	x.rotate(2 * time.Second)
	effs := slices.Clone(x.effs)
	x.want(took[Reply](x), "key 2 (aaaaaaaa) is loaded here and is handed to all nodes")
	x.effs = effs
	if h := took[HandKey](x); !slices.Equal(h, []HandKey{{To: 2, Key: key2}, {To: 3, Key: key2}}) {
		t.Fatalf("%+v", h)
	}
	x.effs = effs
	if said := x.hellos(2); len(said) != 1 || len(said[0].Keys) != 2 || said[0].Plan == nil { // at once
		t.Fatalf("%+v", said)
	}
	both := &rotation.Word{Keys: []rotation.Key{key1, key2}}
	x.says(3*time.Second, 2, both)
	x.says(3*time.Second, 3, both)
	if s := took[SwitchKey](x); !slices.Equal(s, []SwitchKey{{Key: key2}}) {
		t.Fatalf("%+v", s)
	}
	x.give(4*time.Second, Keys{Loaded: rotation.Loaded{Keys: []rotation.Key{key2, key1}}})
	two := &rotation.Word{Keys: []rotation.Key{key2}}
	x.says(5*time.Second, 2, two)
	x.says(5*time.Second, 3, two)
	x.give(5*time.Second+rotation.DropAfter, Timer{})
	if d := took[DropKey](x); !slices.Equal(d, []DropKey{{Key: key1}}) {
		t.Fatalf("%+v", d)
	}
	x.give(20*time.Second, Keys{Loaded: rotation.Loaded{Keys: []rotation.Key{key2}}})
	s := x.n.Status(membership.Mono(20*time.Second), nil)
	if s.Keys.Plan != nil || s.Keys.Stage != "idle" || len(s.Keys.Nodes) != 3 || s.Keys.Nodes[0].Keys[0] != key2 {
		t.Errorf("%+v", s.Keys)
	}
}

func TestWhyNamesWhoLacksTheKey(t *testing.T) {
	x := newTurner(t)
	x.says(time.Second, 2, &rotation.Word{Keys: []rotation.Key{key1}, Err: "4 keys are loaded"})
	x.rotate(2 * time.Second)
	s := x.n.Status(membership.Mono(3*time.Minute), nil)
	reason := func(id membership.NodeID) control.Wait {
		for _, w := range s.Waits {
			if w.For == "key" && w.Owner == id {
				return w
			}
		}
		t.Fatalf("nothing of node %d in %+v", id, s.Waits)
		return control.Wait{}
	}
	if w := reason(2); !strings.Contains(w.Reason, "n2 has not loaded key 2 (aaaaaaaa), which is to take over: 4 keys are loaded") {
		t.Error(w)
	}
	x.give(3*time.Minute, Timer{})
	s = x.n.Status(membership.Mono(3*time.Minute), nil)
	if w := reason(3); !strings.HasPrefix(w.Reason, "it is not known whether n3 has loaded key 2 (aaaaaaaa)") || !strings.Contains(w.Reason, "not connected") || !strings.Contains(w.Command, "quorate key switch --force") {
		t.Error(w)
	}
	x.says(3*time.Minute, 3, &rotation.Word{Keys: []rotation.Key{key1}})
	x.give(3*time.Minute, Disconnected{Peer: 3})
	x.n.st.Node(3).Left = true
	s = x.n.Status(membership.Mono(3*time.Minute), nil)
	if w := reason(3); !strings.HasPrefix(w.Reason, "n3 had not loaded key 2 (aaaaaaaa), which is to take over, when it was last heard") || w.Command != "start quorated on n3" {
		t.Error(w)
	}
}

// Nothing is said of a node that is not known here.
func TestWhatIsKnownOfKeys(t *testing.T) {
	has, lacks := []rotation.Key{key1, key2}, []rotation.Key{key1}
	for want, c := range map[string]struct {
		stage rotation.Stage
		now   bool
		keys  []rotation.Key
	}{
		"n3 has not loaded key 2":                      {rotation.Spreading, true, lacks},
		"n3 had not loaded key 2":                      {rotation.Spreading, false, lacks},
		"it is not known whether n3 has loaded key 2":  {rotation.Spreading, false, nil},
		"it is not known whether n3 has loaded key 2 ": {rotation.Spreading, false, has},
		"n3 does not send with key 2":                  {rotation.Switching, true, has},
		"n3 did not send with key 2":                   {rotation.Switching, false, has},
		"it is not known whether n3 sends with key 2":  {rotation.Switching, false, nil},
	} {
		if got := keyLacks("n3", key2, c.stage, rotation.State{Node: 3, Now: c.now, Keys: c.keys}); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// What an operator asks for and cannot have is refused with the nodes' names.
func TestKeysThatCannotBe(t *testing.T) {
	x := newTurner(t)
	x.says(time.Second, 2, &rotation.Word{Keys: []rotation.Key{key1}})
	x.effs = nil
	for command, want := range map[string]string{"key-switch": "there is no newer key", "key-drop": "this node sends with key 1"} {
		x.give(time.Second, Operator{Token: 3, Command: command, Epoch: 1, Force: true})
		x.want(took[Reply](x), want)
	}
	x.give(time.Second, Operator{Token: 3, Command: "key-reload"})
	if r := took[ReadKeys](x); len(r) != 1 || r[0].Token != 3 {
		t.Fatalf("%+v", r)
	}
	x.give(time.Second, KeysRead{Token: 3, Keys: []rotation.Key{key2, key1}})
	x.want(took[Reply](x), "is not loaded everywhere (n2): append its line")
	x.give(time.Second, KeysRead{Token: 3, Err: "load key: no"})
	x.want(took[Reply](x), "load key: no")
	x.give(time.Second, KeysRead{Token: 3, Keys: []rotation.Key{key1, key2}})
	if l := took[LoadKeys](x); len(l) != 1 || len(l[0].Keys) != 2 {
		t.Fatalf("%+v", l)
	}
	x.give(time.Second, Keys{Token: 3, Loaded: rotation.Loaded{Keys: []rotation.Key{key1, key2}, Read: true}})
	x.want(took[Reply](x), "2 keys loaded; this node sends with 1 (11111111)")
	x.give(time.Second, Keys{Token: 3, Loaded: rotation.Loaded{Keys: []rotation.Key{key1}, Read: true}})
	x.want(took[Reply](x), "1 key loaded; this node sends with 1 (11111111)")
	x.give(time.Second, Keys{Loaded: rotation.Loaded{Keys: []rotation.Key{key1, key2}, Read: true}})
	x.give(time.Second, Operator{Token: 4, Command: "key-switch"})
	x.want(took[Reply](x), "key 2 (aaaaaaaa) takes over when it is loaded on n2, n3")
	x.give(time.Second, Keys{Token: 5, Loaded: rotation.Loaded{Keys: []rotation.Key{key1, key2}, Err: "read-only file system"}})
	x.want(took[Reply](x), "read-only file system")
	y := newHolder(t)
	y.want(y.ask(time.Second, Operator{Token: 1, Command: "key-rotate"}), "has loaded no key")
	if y.n.Status(membership.Mono(time.Second), nil).Keys != nil {
		t.Error("keys of nobody")
	}
}

// A peer's wish to drop a key is heard, and what makes no sense is refused.
func TestWhatPeersSayOfKeys(t *testing.T) {
	x := newTurner(t)
	x.says(time.Second, 2, &rotation.Word{Keys: []rotation.Key{key1, key2}})
	x.give(time.Second, Keys{Loaded: rotation.Loaded{Keys: []rotation.Key{key1, key2}, Rotated: []rotation.Key{key2}}})
	x.give(2*time.Second, Received{From: 2, Data: envelope(kindGone, encodeGone(key2))})
	if !x.n.KeyDiscarded(key2) {
		t.Error("a peer's wish was not heard")
	}
	refused := func(data []byte, words string) {
		t.Helper()
		x.effs = nil
		x.n.peers[2].said = ""
		x.give(2*time.Second, Received{From: 2, Data: data})
		for _, e := range took[Emit](x) {
			if e.Event.Kind == membership.KindRefused && strings.Contains(e.Event.Text, words) {
				return
			}
		}
		t.Errorf("%q is not refused", data)
	}
	refused([]byte("D{"), "name of a key that cannot be read")
	refused([]byte(`D{"epoch":0,"print":"x"}`), "makes no sense")
	b, err := json.Marshal(Hello{Boot: "b", Instance: 5, Keys: &rotation.Word{}})
	if err != nil {
		t.Fatal(err)
	}
	refused(envelope(kindHello, b), "makes no sense")
	refused(KeyMessage([]byte("quorate-key-1 2 secret")), "unknown kind") // the edge takes those; should one come here, it is not repeated
}

func FuzzDecodeGone(f *testing.F) {
	f.Add(encodeGone(key2))
	f.Add([]byte(`{"epoch":4294967295,"print":"0123456789abcdef"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := DecodeGone(b); err == nil {
			if again, err := DecodeGone(encodeGone(k)); err != nil || again != k {
				t.Errorf("%v is read as %v: %v", k, again, err)
			}
		}
	})
}
