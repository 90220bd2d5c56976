package rotation

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// RefusedError is why an operator's wish is not done, and what to do.
type RefusedError struct {
	Text  string
	Nodes []membership.NodeID // that stand in the way, to be named after the text
	Do    string
}

func (e *RefusedError) Error() string {
	if len(e.Nodes) == 0 {
		return e.Text + ": " + e.Do
	}
	return fmt.Sprintf("%s (nodes %v): %s", e.Text, e.Nodes, e.Do)
}

func refuse(nodes []membership.NodeID, do, format string, args ...any) error {
	return &RefusedError{Text: fmt.Sprintf(format, args...), Nodes: nodes, Do: do}
}

// CanRotate says which epoch a new key may be drawn for: one that nobody has ever
// spoken of here.
func (m *Machine) CanRotate() (epoch uint32, err error) {
	switch {
	case m.plan != nil:
		return 0, refuse(nil, fmt.Sprintf("see `quorate key status`, or take that one back with `quorate key drop %d`", m.plan.Key.Epoch), "key %v is on its way already", m.plan.Key)
	case len(m.keys) >= MaxKeys:
		return 0, refuse(nil, "drop one that nobody sends with: `quorate key drop EPOCH`", "%d keys are loaded, and there may be no more", len(m.keys))
	}
	newest := uint32(0)
	see := func(keys ...Key) {
		for _, k := range keys {
			newest = max(newest, k.Epoch)
		}
	}
	see(m.keys...)
	for k := range m.gone {
		see(k)
	}
	for _, p := range m.peers {
		see(p.word.Keys...)
		if p.word.Plan != nil {
			see(p.word.Plan.Key)
		}
	}
	if newest == 1<<32-1 {
		return 0, refuse(nil, "make a new file with `quorate keygen` on all nodes", "there is no epoch after %d", newest)
	}
	return newest + 1, nil
}

// CanSwitch says which key would take over: the plan's, or the newest one that is
// loaded here and newer than the one that this node sends with.
func (m *Machine) CanSwitch() (Key, error) {
	if m.plan != nil {
		return m.plan.Key, nil
	}
	if len(m.keys) == 0 {
		return Key{}, refuse(nil, "start quorated", "no key is loaded")
	}
	k := slices.MaxFunc(m.keys, Key.Compare)
	if k == m.keys[0] {
		return Key{}, refuse(nil, "`quorate key rotate` makes one", "there is no newer key than %v, which this node sends with", k)
	}
	return k, nil
}

// CanDrop finds the loaded key of an epoch, and says whether it may be dropped here.
// Force leaves out the nodes that are away.
func (m *Machine) CanDrop(epoch uint32, force bool) (Key, error) {
	i := slices.IndexFunc(m.keys, func(k Key) bool { return k.Epoch == epoch })
	if i < 0 {
		return Key{}, refuse(nil, "see `quorate key status`", "no key of epoch %d is loaded here", epoch)
	}
	k := m.keys[i]
	if i == 0 {
		return Key{}, refuse(nil, m.instead(k), "this node sends with key %v", k)
	}
	var senders, unknown []membership.NodeID
	for _, id := range m.order {
		p := m.peers[id]
		switch {
		case p.fresh && p.word.Keys[0] == k:
			senders = append(senders, id)
		case p.up && !p.fresh:
			unknown = append(unknown, id)
		case !force && (!p.said || p.word.Keys[0] == k || !p.up && k.Compare(m.keys[0]) > 0):
			unknown = append(unknown, id)
		}
	}
	switch {
	case len(senders) > 0:
		return Key{}, refuse(senders, m.instead(k), "key %v is what others send with", k)
	case len(unknown) > 0:
		text := "key %v may still be what they send with"
		if k.Compare(m.keys[0]) > 0 {
			text = "it is not known whether they have begun to send with key %v meanwhile"
		}
		return Key{}, refuse(unknown, fmt.Sprintf("start quorated there and say it again; `quorate key drop %d --force` leaves out who is away, and who then sends with it, or has no other key, comes back only with the key file of another node", k.Epoch), text, k)
	}
	return k, nil
}

// instead is what helps to be rid of a key that is sent with.
func (m *Machine) instead(k Key) string {
	switch newest := slices.MaxFunc(m.keys, Key.Compare); {
	case m.plan != nil && m.plan.Key.Compare(k) > 0:
		return fmt.Sprintf("it goes by itself when all send with key %v; `quorate key status` says whom that waits for", m.plan.Key)
	case newest.Compare(k) > 0:
		return "have a newer one take over: `quorate key switch`"
	case k == m.keys[0]:
		return "have a new one take over: `quorate key rotate`"
	case m.plan != nil && m.plan.Key == k:
		return "it is taking over, and cannot be taken back any more: when it has (`quorate key status` says whom that waits for), `quorate key rotate` puts a new one in its place"
	}
	return "it cannot be taken back any more: have it take over here, too (`quorate key switch`), then a new one (`quorate key rotate`)"
}

// CanLoad says whether a changed file may be loaded: this node must understand every
// connected one, and be understood.
func (m *Machine) CanLoad(keys []Key) error {
	var deaf, mute []membership.NodeID
	for _, id := range m.order {
		p := m.peers[id]
		if !p.up {
			continue
		}
		if !p.fresh || !p.word.has(keys[0]) {
			deaf = append(deaf, id)
		}
		if p.fresh && !slices.Contains(keys, p.word.Keys[0]) {
			mute = append(mute, id)
		}
	}
	switch {
	case len(deaf) > 0:
		return refuse(deaf, "append its line to the files of all nodes first, and run `quorate key reload` there", "the first key of the file, %v, is not loaded everywhere", keys[0])
	case len(mute) > 0:
		return refuse(mute, "keep the line until `quorate key status` says that nobody sends with it", "the file lacks a key that others send with")
	}
	return nil
}

// Admit says what becomes of a key that was handed over by a peer, by what is loaded:
// it is taken (replace is the one of the same epoch whose place it takes, if any), or
// not, with the reason; without one there is nothing to do.
func Admit(have []Key, k Key) (take bool, replace Key, err error) {
	if slices.Contains(have, k) {
		return false, Key{}, nil
	}
	for i, o := range have {
		switch {
		case o.Epoch == k.Epoch && i == 0:
			return false, Key{}, refuse(nil, "copy the key file of the other nodes here, then `quorate key reload`", "this node sends with another key of epoch %d", k.Epoch)
		case o.Epoch == k.Epoch && o.Compare(k) > 0:
			return false, Key{}, nil // ours takes its place over there
		case o.Epoch == k.Epoch:
			replace = o
		case o.Epoch > k.Epoch:
			return false, Key{}, refuse(nil, "see `quorate key status`, and `quorate key drop` the one that is not wanted", "key %v is newer than %v, which is to be introduced", o, k)
		}
	}
	if replace == (Key{}) && len(have) >= MaxKeys {
		return false, Key{}, refuse(nil, "drop one that nobody sends with: `quorate key drop EPOCH`", "%d keys are loaded, and there may be no more", len(have))
	}
	return true, replace, nil
}

// Keys are what this node has loaded; it sends with the first.
func (m *Machine) Keys() []Key { return slices.Clone(m.keys) }

// State is what a node is known to have.
type State struct {
	Node membership.NodeID
	Up   bool  // connected, or this node
	Now  bool  // it has said so on the connection that stands
	Keys []Key // nil: it was not heard since this daemon started
	Err  string
}

// States are all configured nodes', by id.
func (m *Machine) States() []State {
	out := []State{{Node: m.self, Up: true, Now: true, Keys: slices.Clone(m.keys), Err: m.err}}
	for _, id := range m.order {
		p := m.peers[id]
		out = append(out, State{Node: id, Up: p.up, Now: p.fresh, Keys: slices.Clone(p.word.Keys), Err: p.word.Err})
	}
	slices.SortFunc(out, func(a, b State) int { return int(int64(a.Node) - int64(b.Node)) })
	return out
}

// Stage is where a plan stands here.
type Stage int

// The stages, in their order.
const (
	Idle      Stage = iota // there is no plan
	Awaiting               // this node has not got the key yet
	Spreading              // not all have it
	Switching              // not all send with it
	Dropping               // the old ones are about to go
)

func (s Stage) String() string {
	return [...]string{"idle", "awaiting", "spreading", "switching", "dropping"}[s]
}

// Progress says where the plan stands, and whom it waits for.
func (m *Machine) Progress() (p Plan, s Stage, of []membership.NodeID) {
	switch {
	case m.plan == nil:
		return Plan{}, Idle, nil
	case !slices.Contains(m.keys, m.plan.Key):
		return *m.plan, Awaiting, []membership.NodeID{m.self}
	case m.keys[0] != m.plan.Key && len(m.lacking()) > 0:
		return *m.plan, Spreading, m.lacking()
	case m.keys[0] != m.plan.Key:
		return *m.plan, Switching, []membership.NodeID{m.self}
	case len(m.behind()) > 0:
		return *m.plan, Switching, m.behind()
	}
	return *m.plan, Dropping, nil
}

// Age is how long this node has had its plan; 0: there is none.
func (m *Machine) Age() time.Duration {
	if m.plan == nil {
		return 0
	}
	return m.now.Sub(m.since)
}

// Away is how long a node has been away; 0: it is connected.
func (m *Machine) Away(id membership.NodeID) time.Duration {
	if p := m.peers[id]; p != nil && !p.up {
		return m.now.Sub(p.downAt)
	}
	return 0
}
