package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/rotation"
)

// The keys of the cluster change by the word of membership/rotation. Only names of
// keys get here: the edge has the file, and hands the material on.

// Keys is what this node has loaded, after a change of it, or one that failed.
type Keys struct {
	rotation.Loaded
	// Token is of the operator who asked for the change; 0: nobody did. Begin is what
	// it was for, if it succeeded: a key that was drawn is to take over.
	Token uint64
	Begin *rotation.Plan
}

// KeysRead are the keys of the file, which an operator wants loaded.
type KeysRead struct {
	Token uint64
	Keys  []rotation.Key
	Err   string
}

// DrawKey has a new key made, added to the file and loaded; Keys answers.
type DrawKey struct {
	Token uint64
	Epoch uint32
	Now   bool // as in the plan of the answer
}

// HandKey has a key that is loaded handed to a peer.
type HandKey rotation.Hand

// SwitchKey moves a key to the top of the file, and sends with it; Keys answers.
type SwitchKey rotation.Switch

// DropKey takes it out of the file, and accepts it no more; Keys answers.
type DropKey rotation.Drop

// ReadKeys has the file read; KeysRead answers.
type ReadKeys struct{ Token uint64 }

// LoadKeys has the file loaded if it still has these keys; Keys answers.
type LoadKeys struct {
	Token uint64
	Keys  []rotation.Key
}

func (Keys) nodeInput()     {}
func (KeysRead) nodeInput() {}

func (DrawKey) nodeEffect()   {}
func (HandKey) nodeEffect()   {}
func (SwitchKey) nodeEffect() {}
func (DropKey) nodeEffect()   {}
func (ReadKeys) nodeEffect()  {}
func (LoadKeys) nodeEffect()  {}

// KeyMessage makes the message that hands a key over. IT HOLDS THE KEY.
func KeyMessage(line []byte) []byte { return envelope(kindKey, line) }

// HandedKey returns the key of such a message; ok is false for all other messages.
func HandedKey(data []byte) (line []byte, ok bool) {
	if len(data) == 0 || data[0] != kindKey {
		return nil, false
	}
	return data[1:], true
}

// KeyDiscarded says that an operator had a key dropped: it is not taken again.
func (n *Node) KeyDiscarded(k rotation.Key) bool { return n.rot.Discarded(k) }

// rotate gives the rotation one input and executes what it asks for.
func (n *Node) rotate(in rotation.Input) {
	before, stage, _ := n.rot.Progress()
	for _, e := range n.rot.Step(n.now, in) {
		switch e := e.(type) {
		case rotation.Hand:
			n.do(HandKey(e))
		case rotation.Retract:
			n.do(Send{To: e.To, Data: envelope(kindGone, encodeGone(e.Key))})
		case rotation.Switch:
			n.do(SwitchKey(e))
		case rotation.Drop:
			n.do(DropKey(e))
		}
	}
	after, now, _ := n.rot.Progress()
	if now != stage || after != before {
		n.tellPlan(before, after, now)
		n.helloAt = n.now // the others wait for this node's word
	}
}

func (n *Node) tellPlan(before, after rotation.Plan, stage rotation.Stage) {
	text := ""
	switch {
	case stage == rotation.Idle && n.rot.Discarded(before.Key):
		text = fmt.Sprintf("key %v is not to take over any more", before.Key)
	case stage == rotation.Idle:
		text = fmt.Sprintf("key %v has taken over, and older ones are gone", before.Key)
	case after.Key != before.Key && before.Key.Epoch == after.Key.Epoch:
		text = fmt.Sprintf("two rotations at once: key %v takes the place of %v", after.Key, before.Key)
	case after.Key != before.Key:
		text = fmt.Sprintf("key %v is to take over", after.Key)
	case after.Now && !before.Now:
		text = fmt.Sprintf("key %v is to take over without the nodes that are away", after.Key)
	case stage == rotation.Dropping:
		text = fmt.Sprintf("all nodes send with key %v: older ones go", after.Key)
	default:
		return
	}
	n.emit(membership.Event{Kind: membership.KindKey, Text: text})
}

// keysLoaded: the file was changed, or could not be.
func (n *Node) keysLoaded(in Keys) {
	was, err := n.rot.Keys(), n.keyErr
	n.keyErr = in.Err
	n.rotate(in.Loaded)
	if in.Begin != nil && in.Err == "" {
		n.rotate(rotation.Begin{Plan: *in.Begin})
	}
	n.tellLoaded(was, err, in)
	n.helloAt = n.now
	if in.Token == 0 {
		return
	}
	switch {
	case in.Err != "":
		n.do(Reply{Token: in.Token, Err: in.Err})
	case in.Begin != nil:
		n.do(Reply{Token: in.Token, Text: fmt.Sprintf("key %v is loaded here and is handed to all nodes; it takes over when they have it: `quorate key status`", in.Begin.Key)})
	default:
		n.do(Reply{Token: in.Token, Text: fmt.Sprintf("%s loaded; this node sends with %v", membership.Count(len(in.Keys), "key"), in.Keys[0])})
	}
}

// tellLoaded says what became of this node's own keys.
func (n *Node) tellLoaded(was []rotation.Key, err string, in Keys) {
	say := func(format string, args ...any) {
		n.emit(membership.Event{Kind: membership.KindKey, Subject: n.cfg.Self, Text: fmt.Sprintf(format, args...)})
	}
	if in.Err != "" && in.Err != err {
		say("keys: %s", in.Err)
	}
	for _, k := range in.Keys {
		if !slices.Contains(was, k) {
			say("key %v is loaded", k)
		}
	}
	for _, k := range was {
		if !slices.Contains(in.Keys, k) {
			say("key %v is gone", k)
		}
	}
	if len(in.Keys) > 0 && in.Keys[0] != was[0] {
		say("this node sends with key %v", in.Keys[0])
	}
}

// heardKeys takes what a peer says of its keys.
func (n *Node) heardKeys(from membership.NodeID, p *peer, w *rotation.Word) {
	if w == nil {
		return
	}
	if err := w.Check(); err != nil {
		n.refusePeer(from, p, err.Error())
		return
	}
	n.rotate(rotation.Heard{Node: from, Word: *w})
}

func encodeGone(k rotation.Key) []byte {
	b, err := json.Marshal(k)
	if err != nil {
		panic("node: the name of a key that cannot be encoded: " + err.Error())
	}
	return b
}

// DecodeGone reads the name of a key that a peer wants dropped.
func DecodeGone(b []byte) (rotation.Key, error) {
	var k rotation.Key
	if len(b) > maxHello {
		return k, fmt.Errorf("name of a key of %d bytes", len(b))
	}
	if err := json.Unmarshal(b, &k); err != nil {
		return k, err
	}
	return k, rotation.Word{Keys: []rotation.Key{k}}.Check()
}

// gotGone: an operator elsewhere had a key dropped.
func (n *Node) gotGone(from membership.NodeID, p *peer, b []byte) {
	k, err := DecodeGone(b)
	if err != nil {
		n.refusePeer(from, p, "name of a key that cannot be read: "+err.Error())
		return
	}
	n.rotate(rotation.Discard{Key: k})
}

func (n *Node) operateKeys(in Operator) {
	if n.rot.Word() == nil {
		n.refuseOperator(in, "this node has loaded no key: see `quorate key status`")
		return
	}
	switch in.Command {
	case "key-rotate":
		epoch, err := n.rot.CanRotate()
		if err != nil {
			n.refuseKeys(in, err)
			return
		}
		n.do(DrawKey{Token: in.Token, Epoch: epoch, Now: in.Force})
	case "key-switch":
		n.askSwitch(in)
	case "key-drop":
		k, err := n.rot.CanDrop(in.Epoch, in.Force)
		if err != nil {
			n.refuseKeys(in, err)
			return
		}
		n.emit(membership.Event{Kind: membership.KindKey, Text: fmt.Sprintf("key %v is to be dropped on all nodes, by %s", k, in.Who)})
		n.rotate(rotation.Discard{Key: k})
		n.do(Reply{Token: in.Token, Text: fmt.Sprintf("key %v is dropped here and on the nodes that are connected; see `quorate key status`", k)})
	case "key-reload":
		n.do(ReadKeys{Token: in.Token})
	}
}

// askSwitch has a key take over that is loaded already: one that was added by hand,
// or one of a rotation that waits for nodes which are away.
func (n *Node) askSwitch(in Operator) {
	k, err := n.rot.CanSwitch()
	if err != nil {
		n.refuseKeys(in, err)
		return
	}
	n.rotate(rotation.Begin{Plan: rotation.Plan{Key: k, Now: in.Force}})
	text := fmt.Sprintf("key %v takes over", k)
	if _, stage, of := n.rot.Progress(); stage == rotation.Spreading {
		text += " when it is loaded on " + n.names(of)
		if in.Force {
			text += fmt.Sprintf("; who has been away for %s is left out", membership.Short(rotation.AbsentAfter))
		}
	}
	n.do(Reply{Token: in.Token, Text: text + "; see `quorate key status`"})
}

// refuseKeys says the nodes by their names.
func (n *Node) refuseKeys(in Operator, err error) {
	var r *rotation.RefusedError
	if errors.As(err, &r) && len(r.Nodes) > 0 {
		n.refuseOperator(in, "%s (%s): %s", r.Text, n.names(r.Nodes), r.Do)
		return
	}
	n.refuseOperator(in, "%s", err)
}

// keysRead: what the file holds may be loaded, or not.
func (n *Node) keysRead(in KeysRead) {
	err := error(nil)
	if in.Err != "" {
		err = errors.New(in.Err)
	} else {
		err = n.rot.CanLoad(in.Keys)
	}
	if err != nil {
		n.refuseKeys(Operator{Token: in.Token}, err)
		return
	}
	n.do(LoadKeys{Token: in.Token, Keys: in.Keys})
}

// keyStatus is who has which keys.
func (n *Node) keyStatus() *control.KeyStatus {
	if n.rot.Word() == nil {
		return nil
	}
	plan, stage, _ := n.rot.Progress()
	s := &control.KeyStatus{Stage: stage.String()}
	if stage != rotation.Idle {
		s.Plan = &plan
	}
	for _, x := range n.rot.States() {
		s.Nodes = append(s.Nodes, control.KeyNode{ID: x.Node, Name: n.cfg.Name(x.Node), Connected: x.Up, Keys: x.Keys, Err: x.Err})
	}
	return s
}

// keyWaits are the nodes that a rotation waits for.
func (n *Node) keyWaits() []control.Wait {
	plan, stage, of := n.rot.Progress()
	var ws []control.Wait
	for _, x := range n.rot.States() {
		if !slices.Contains(of, x.Node) {
			continue
		}
		w := control.Wait{What: fmt.Sprintf("key %d", plan.Key.Epoch), For: "key", Owner: x.Node, Since: n.rot.Age()}
		w.Reason = keyLacks(n.cfg.Name(x.Node), plan.Key, stage, x)
		switch {
		case !x.Up:
			w.Reason += ": it is not connected, and goes on when it is back"
			w.Command = n.comeBack(x.Node)
			if n.rot.Away(x.Node) >= time.Minute && stage == rotation.Spreading {
				w.Command += "; if it is gone for good: quorate key switch --force"
			}
		case x.Err != "":
			w.Reason += ": " + x.Err
		case x.Node == n.cfg.Self:
			w.Reason += "; it is handed over by the others"
		}
		ws = append(ws, w)
	}
	return ws
}

// keyLacks says what a node has not done, as far as this one knows: who is away may
// have done it meanwhile, and who has not said anything since this daemon started long ago.
func keyLacks(name string, k rotation.Key, stage rotation.Stage, x rotation.State) string {
	switch {
	case stage == rotation.Switching && x.Now:
		return fmt.Sprintf("%s does not send with key %v yet; the older ones stay until then", name, k)
	case stage == rotation.Switching && len(x.Keys) == 0:
		return fmt.Sprintf("it is not known whether %s sends with key %v; the older ones stay until then", name, k)
	case stage == rotation.Switching:
		return fmt.Sprintf("%s did not send with key %v when it was last heard; the older ones stay until then", name, k)
	case x.Now:
		return fmt.Sprintf("%s has not loaded key %v, which is to take over", name, k)
	case len(x.Keys) == 0 || slices.Contains(x.Keys, k):
		return fmt.Sprintf("it is not known whether %s has loaded key %v, which is to take over", name, k)
	}
	return fmt.Sprintf("%s had not loaded key %v, which is to take over, when it was last heard", name, k)
}

// comeBack is what to do about a node that is not connected, as the waits for members have it.
func (n *Node) comeBack(id membership.NodeID) string {
	switch state, _ := n.stateOf(id); state {
	case "left":
		return "start quorated on " + n.cfg.Name(id)
	case "refused":
		return n.refusedDo(id)
	}
	if _, do := n.shut(id); do != "" {
		return do
	}
	return n.bringBack(id)
}
