package rotation

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

const (
	// MaxKeys is how many keys a node may have loaded.
	MaxKeys = 4
	// PrintLen is the length of a fingerprint, in hexadecimal digits.
	PrintLen = 16
	// DropAfter is how long an old key is kept after all send with the new one:
	// what was sent with it has come by then.
	DropAfter = 5 * time.Second
	// AbsentAfter is how long a node must have been away to be left out by force.
	AbsentAfter = 10 * time.Second

	handEvery = time.Second
	retry     = 10 * time.Second // after an effect that failed
	maxErr    = 400              // of a word, in bytes
)

// Key names a key.
type Key struct {
	Epoch uint32 `json:"epoch"`
	Print string `json:"print"` // fingerprint: PrintLen hexadecimal digits that tell nothing of the key
}

// Compare orders keys by age: by epoch, then by fingerprint.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Epoch, o.Epoch), cmp.Compare(k.Print, o.Print))
}

// String is the key as people say it: the epoch, and half of the fingerprint.
func (k Key) String() string {
	return fmt.Sprintf("%d (%s)", k.Epoch, k.Print[:min(len(k.Print), PrintLen/2)])
}

func (k Key) valid() bool {
	if k.Epoch == 0 || len(k.Print) != PrintLen {
		return false
	}
	for _, c := range []byte(k.Print) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Plan says which key is to take over.
type Plan struct {
	Key Key `json:"key"`
	// Now leaves out the nodes that are away: an operator's wish.
	Now bool `json:"now,omitempty"`
}

// Word is what a node says of its keys.
type Word struct {
	Keys []Key  `json:"keys"` // loaded and durable; it sends with the first
	Plan *Plan  `json:"plan,omitempty"`
	Err  string `json:"err,omitempty"` // what keeps it from going on
}

// ErrWord is a word that makes no sense.
var ErrWord = errors.New("what it says of its keys makes no sense: install the same quorated on all nodes")

// Check looks at a word as it came from a peer.
func (w Word) Check() error {
	if len(w.Keys) == 0 || len(w.Keys) > MaxKeys || len(w.Err) > maxErr || w.Plan != nil && !w.Plan.Key.valid() {
		return ErrWord
	}
	for i, k := range w.Keys {
		if !k.valid() || slices.ContainsFunc(w.Keys[:i], func(o Key) bool { return o.Epoch == k.Epoch }) {
			return ErrWord
		}
	}
	return nil
}

func (w Word) has(k Key) bool { return slices.Contains(w.Keys, k) }

// Input is one of the inputs below.
type Input interface{ input() }

// Tick is the passing of time.
type Tick struct{}

// Loaded is what this node has loaded, at its start and after each change. It
// answers Switch and Drop.
type Loaded struct {
	Keys []Key
	// Rotated are those of the keys that came by a rotation: one that was under way
	// when the daemon ended goes on.
	Rotated []Key
	Err     string // why the last change was not made
	// Read says that an operator had the file read: what was discarded and stands
	// there is wanted again.
	Read bool
}

// Up and Down say that messages to a node can flow, or cannot.
type Up struct{ Node membership.NodeID }

// Down is the end of that.
type Down struct{ Node membership.NodeID }

// Heard is a node's word, as Check found it good.
type Heard struct {
	Node membership.NodeID
	Word Word
}

// Begin makes a plan, by an operator's wish: see CanRotate and CanSwitch.
type Begin struct{ Plan Plan }

// Discard has a key dropped, by an operator's wish, here (see CanDrop) or at a peer
// that says so by Retract. A plan for it ends, and it is not taken again in this run
// of the daemon. It is taken back when somebody sends with the key already.
type Discard struct{ Key Key }

func (Tick) input()    {}
func (Loaded) input()  {}
func (Up) input()      {}
func (Down) input()    {}
func (Heard) input()   {}
func (Begin) input()   {}
func (Discard) input() {}

// Effect is one of the effects below.
type Effect interface{ effect() }

// Hand has a key handed to a connected node. It is repeated until that has it.
type Hand struct {
	To  membership.NodeID
	Key Key
}

// Retract tells a connected node to Discard a key. It is repeated until its word
// lacks it.
type Retract struct {
	To  membership.NodeID
	Key Key
}

// Switch has this node send with a key that it has loaded; Loaded answers.
type Switch struct{ Key Key }

// Drop has it forget one that it does not send with; Loaded answers.
type Drop struct{ Key Key }

func (Hand) effect()    {}
func (Retract) effect() {}
func (Switch) effect()  {}
func (Drop) effect()    {}
