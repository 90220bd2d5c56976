package rotation

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// world is some nodes with their files, and links that carry messages in order and
// lose what is under way when they break. It checks after every step.
type world struct {
	now   membership.Mono
	nodes []*node
	links map[[2]int][]message // from, to: a link that is up
	drawn int
	fail  func(format string, args ...any)
}

// node is one machine. Its file outlives the runs of its daemon.
type node struct {
	w     *world
	id    membership.NodeID
	file  []Key // durable and loaded, while it is up
	marks map[Key]bool
	m     *Machine // nil: it is down
	edge  []func() // changes of the file that are under way, in their order
	said  string
	force bool // it was forced: the rule on configured nodes does not bind it
}

type message struct {
	word    *Word
	hand    *Key
	retract *Key
}

func newWorld(n int, fail func(string, ...any)) *world {
	w := &world{links: map[[2]int][]message{}, fail: fail}
	for i := range n {
		w.nodes = append(w.nodes, &node{w: w, id: membership.NodeID(i + 1), file: []Key{{1, fmt.Sprintf("%016x", 1)}}, marks: map[Key]bool{}})
	}
	for i := range n {
		w.boot(i)
	}
	return w
}

func (w *world) boot(i int) {
	x := w.nodes[i]
	if x.m != nil {
		return
	}
	var ids []membership.NodeID
	for _, o := range w.nodes {
		ids = append(ids, o.id)
	}
	x.m = New(x.id, ids, w.now)
	x.loaded("")
}

// kill ends the daemon; what had not reached the file is lost.
func (w *world) kill(i int) {
	for j := range w.nodes {
		if j != i {
			w.cut(i, j)
		}
	}
	w.nodes[i].m, w.nodes[i].edge = nil, nil
}

func (w *world) connect(i, j int) {
	if _, up := w.links[[2]int{i, j}]; up || i == j || w.nodes[i].m == nil || w.nodes[j].m == nil {
		return
	}
	a, b := w.nodes[i], w.nodes[j]
	if !slices.Contains(b.file, a.file[0]) || !slices.Contains(a.file, b.file[0]) {
		return // neither believes the other's certificate
	}
	w.links[[2]int{i, j}], w.links[[2]int{j, i}] = []message{}, []message{}
	a.step(Up{b.id})
	b.step(Up{a.id})
	a.say(j)
	b.say(i)
}

func (w *world) cut(i, j int) {
	if _, up := w.links[[2]int{i, j}]; !up {
		return
	}
	delete(w.links, [2]int{i, j})
	delete(w.links, [2]int{j, i})
	w.nodes[i].step(Down{w.nodes[j].id})
	w.nodes[j].step(Down{w.nodes[i].id})
}

func (w *world) send(i, j int, m message) {
	if q, up := w.links[[2]int{i, j}]; up {
		w.links[[2]int{i, j}] = append(q, m)
	}
}

// deliver takes the first message of a link.
func (w *world) deliver(i, j int) {
	q := w.links[[2]int{i, j}]
	if len(q) == 0 {
		return
	}
	w.links[[2]int{i, j}] = q[1:]
	x, from := w.nodes[j], w.nodes[i].id
	switch m := q[0]; {
	case m.word != nil:
		if err := m.word.Check(); err != nil {
			w.fail("node %d says %+v: %v", from, *m.word, err)
		}
		x.step(Heard{from, *m.word})
	case m.hand != nil:
		x.edge = append(x.edge, func() { x.take(*m.hand) })
	case m.retract != nil:
		x.step(Discard{*m.retract})
	}
}

func (x *node) say(j int) {
	if w := x.m.Word(); w != nil {
		x.w.send(int(x.id)-1, j, message{word: w})
	}
}

func (x *node) sayAll() {
	for j := range x.w.nodes {
		x.say(j)
	}
}

func (x *node) step(in Input) {
	if x.m == nil {
		return
	}
	i := int(x.id) - 1
	for _, e := range x.m.Step(x.w.now, in) {
		switch e := e.(type) {
		case Hand:
			x.w.send(i, int(e.To)-1, message{hand: &e.Key})
		case Retract:
			x.w.send(i, int(e.To)-1, message{retract: &e.Key})
		case Switch:
			x.edge = append(x.edge, func() { x.first(e.Key) })
		case Drop:
			x.edge = append(x.edge, func() { x.forget(e.Key) })
		}
	}
	b, _ := json.Marshal(x.m.Word()) // of strings and numbers
	said := string(b)
	if _, tick := in.(Tick); tick || said != x.said { // as a daemon does: at once when it changes, and every second
		x.said = said
		x.sayAll()
	}
}

// work does the oldest change of the file that is under way.
func (x *node) work() {
	if len(x.edge) > 0 && x.m != nil {
		do := x.edge[0]
		x.edge = x.edge[1:]
		do()
		x.w.check()
	}
}

func (x *node) loaded(err string) {
	var rotated []Key
	for _, k := range x.file {
		if x.marks[k] {
			rotated = append(rotated, k)
		}
	}
	x.step(Loaded{Keys: x.file, Rotated: rotated, Err: err})
}

func (x *node) take(k Key) {
	take, replace, err := Admit(x.file, k)
	switch {
	case x.m.Discarded(k):
		return
	case err != nil:
		x.loaded(err.Error())
		return
	case !take:
		return
	}
	if i := slices.Index(x.file, replace); i >= 0 {
		x.file = slices.Concat(x.file[:i], []Key{k}, x.file[i+1:])
	} else {
		x.file = append(slices.Clone(x.file), k)
	}
	x.marks[k] = true
	x.loaded("")
}

func (x *node) first(k Key) {
	if i := slices.Index(x.file, k); i >= 0 {
		x.file = slices.Concat([]Key{k}, x.file[:i], x.file[i+1:])
	}
	x.loaded("")
}

func (x *node) forget(k Key) {
	if i := slices.Index(x.file, k); i > 0 {
		for _, o := range x.w.nodes {
			if o.file[0] == k {
				x.w.fail("node %d drops key %v, which node %d sends with", x.id, k, o.id)
			}
		}
		x.file = slices.Concat(x.file[:i], x.file[i+1:])
	}
	x.loaded("")
}

// rotate is an operator's; the key is drawn a while later.
func (x *node) rotate() error {
	if x.m == nil {
		return nil
	}
	epoch, err := x.m.CanRotate()
	if err != nil {
		return err
	}
	x.edge = append(x.edge, func() {
		if slices.ContainsFunc(x.file, func(k Key) bool { return k.Epoch >= epoch }) {
			return
		}
		x.w.drawn++
		k := Key{epoch, fmt.Sprintf("%016x", uint64(x.w.drawn)*0x9e3779b97f4a7c15)}
		x.file = append(slices.Clone(x.file), k)
		x.marks[k] = true
		x.loaded("")
	})
	return nil
}

// discard is an operator's, not by force.
func (x *node) discard(epoch uint32) {
	if x.m == nil {
		return
	}
	if k, err := x.m.CanDrop(epoch, false); err == nil {
		x.step(Discard{k})
	}
}

// check: what anybody sends with is loaded by all configured nodes.
func (w *world) check() {
	for _, a := range w.nodes {
		for _, b := range w.nodes {
			if !a.force && !slices.Contains(b.file, a.file[0]) {
				w.fail("node %d sends with key %v, and node %d has %v", a.id, a.file[0], b.id, b.file)
			}
		}
		if len(a.file) > MaxKeys {
			w.fail("node %d has %d keys", a.id, len(a.file))
		}
	}
}

// pass lets time go by, with everything delivered as it comes.
func (w *world) pass(d time.Duration) {
	for end := w.now.Add(d); w.now < end; w.now = w.now.Add(500 * time.Millisecond) {
		for _, x := range w.nodes {
			x.step(Tick{})
		}
		for range 3 {
			for i := range w.nodes {
				for j := range w.nodes {
					for len(w.links[[2]int{i, j}]) > 0 && w.nodes[j].m != nil {
						w.deliver(i, j)
					}
				}
				for len(w.nodes[i].edge) > 0 {
					w.nodes[i].work()
				}
			}
		}
	}
}

func (w *world) connectAll() {
	for i := range w.nodes {
		for j := range i {
			w.connect(i, j)
		}
	}
}
