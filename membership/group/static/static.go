package static

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

// Config is what a Machine is made from.
type Config struct {
	Self membership.NodeID
	// Members are the listed nodes, Self among them.
	Members []membership.NodeID
	// Run tells apart two lives of a sequencer: any number that a restart
	// changes, such as its start time. Needed for more than one member.
	Run uint64
	// Name is a node's name in texts; default "node 3".
	Name func(membership.NodeID) string
	// Keep is how many entries are kept for nodes that reconnect before
	// WantsCompact asks for the consumers' state; default 1000.
	Keep int
}

// entry is one place in the order.
type entry struct {
	index uint64
	data  []byte
}

// Machine orders entries by the word of one node.
type Machine struct {
	cfg  Config
	seq  membership.NodeID // the sequencer
	run  uint64            // of the sequencer; 0: not heard from yet
	last uint64            // last index delivered

	base  uint64 // the log begins after this index …
	state []byte // … with this state of the consumers
	log   []entry
	up    []membership.NodeID
	now   membership.Mono
	asked bool            // the sequencer was asked and has not answered yet …
	askAt membership.Mono // … since then

	out []membership.GroupEffect
}

var _ membership.Group = (*Machine)(nil)

var errRun = errors.New("static: several members need a run number")

// New makes a machine. It has nothing to restore.
func New(cfg Config) (*Machine, error) {
	if cfg.Keep <= 0 {
		cfg.Keep = 1000
	}
	if cfg.Name == nil {
		cfg.Name = func(n membership.NodeID) string { return fmt.Sprintf("node %d", n) }
	}
	m := &Machine{cfg: cfg}
	members, err := m.list(cfg.Members)
	if err != nil {
		return nil, err
	}
	m.cfg.Members, m.seq = members, members[0]
	m.run = cfg.Run
	if m.seq != cfg.Self {
		m.run = 0
	}
	return m, nil
}

// list returns a list of members in its order, if this node can work by it.
func (m *Machine) list(members []membership.NodeID) ([]membership.NodeID, error) {
	members = slices.Clone(members)
	slices.Sort(members)
	members = slices.Compact(members)
	if !slices.Contains(members, m.cfg.Self) {
		return nil, fmt.Errorf("static: node %d is not in the list %v", m.cfg.Self, members)
	}
	if len(members) > 1 && m.cfg.Run == 0 {
		return nil, errRun
	}
	return members, nil
}

// Members takes a changed list. A change of the sequencer is refused: it would
// begin another order; restart all nodes for that. What a node that is new on
// the list has to be told is among the effects of the next Step.
func (m *Machine) Members(members []membership.NodeID) error {
	members, err := m.list(members)
	if err != nil {
		return err
	}
	if members[0] != m.seq {
		return fmt.Errorf("static: the list %v changes the sequencer from node %d to %d: stop the cluster for that", members, m.seq, members[0])
	}
	old := m.cfg.Members
	m.cfg.Members = members
	for _, n := range m.up {
		if m.seq == m.cfg.Self && !slices.Contains(old, n) {
			m.answer(n, message{}) // what it asked before was refused
		}
	}
	return nil
}

// Step takes inputs in their order.
func (m *Machine) Step(now membership.Mono, in ...membership.GroupInput) []membership.GroupEffect {
	m.now = max(m.now, now)
	for _, i := range in {
		m.input(i)
	}
	if d := m.Deadline(); d != 0 && m.now >= d {
		m.ask()
	}
	out := m.out
	m.out = nil
	return out
}

func (m *Machine) input(in membership.GroupInput) {
	switch in := in.(type) {
	case membership.GroupLink:
		m.link(in)
	case membership.GroupReceive:
		if err := m.receive(in); err != nil {
			m.emit(membership.GroupTrace{Kind: "refused", Text: fmt.Sprintf("message of %s: %v", m.cfg.Name(in.From), err)})
		}
	case membership.GroupPropose:
		m.propose(in.Data)
	case membership.GroupCompact:
		m.compact(in)
	}
}

// Times of a follower: a message may be lost while a connection lasts.
const (
	askEvery = time.Second            // tells the sequencer where it is
	askAgain = 200 * time.Millisecond // asks again for what is missing
)

// Deadline is when a follower asks again; a sequencer waits for nothing.
func (m *Machine) Deadline() membership.Mono {
	if m.seq == m.cfg.Self || !slices.Contains(m.up, m.seq) {
		return 0
	}
	return m.askAt.Add(askEvery)
}

func (m *Machine) ask() {
	m.asked, m.askAt = true, m.now
	m.send(m.seq, message{kind: kindAsk, run: m.run, index: m.last})
}

func (m *Machine) link(in membership.GroupLink) {
	i, had := slices.BinarySearchFunc(m.up, in.Peer, cmp.Compare[membership.NodeID])
	switch {
	case in.Up && !had:
		m.up = slices.Insert(m.up, i, in.Peer)
	case !in.Up && had:
		m.up = slices.Delete(m.up, i, i+1)
	}
	if in.Up && in.Peer == m.seq && m.seq != m.cfg.Self {
		m.ask()
	}
}

func (m *Machine) propose(data []byte) {
	if len(data) == 0 {
		return
	}
	if m.seq == m.cfg.Self {
		m.order(data)
		return
	}
	m.send(m.seq, message{kind: kindPropose, data: data})
}

// order gives an entry its number and tells everyone.
func (m *Machine) order(data []byte) {
	e := entry{m.last + 1, slices.Clone(data)}
	m.log = append(m.log, e)
	for _, n := range m.up {
		m.send(n, message{kind: kindEntry, run: m.run, index: e.index, data: e.data})
	}
	m.deliver(e)
}

func (m *Machine) deliver(e entry) {
	m.last, m.asked = e.index, false
	m.emit(membership.GroupDeliver{Index: e.index, Term: 1, Data: e.data})
}

func (m *Machine) receive(in membership.GroupReceive) error {
	msg, err := parse(in.Data)
	if err != nil {
		return err
	}
	if !slices.Contains(m.cfg.Members, in.From) {
		return errors.New("not listed")
	}
	switch {
	case m.seq == m.cfg.Self && msg.kind == kindPropose:
		m.order(msg.data)
	case m.seq == m.cfg.Self && msg.kind == kindAsk:
		m.answer(in.From, msg)
	case in.From == m.seq && (msg.kind == kindEntry || msg.kind == kindState):
		m.follow(msg)
	default:
		return fmt.Errorf("kind %d is not for this node", msg.kind)
	}
	return nil
}

// answer brings a node up to date: with the state when its place in the log is
// gone or of another run, and with the entries after it.
func (m *Machine) answer(to membership.NodeID, ask message) {
	from := ask.index
	if ask.run != m.run || from < m.base || from > m.last {
		m.send(to, message{kind: kindState, run: m.run, index: m.base, data: m.state})
		from = m.base
	}
	for _, e := range m.log {
		if e.index > from {
			m.send(to, message{kind: kindEntry, run: m.run, index: e.index, data: e.data})
		}
	}
}

// follow delivers what the sequencer ordered, in order, and asks for what is missing.
func (m *Machine) follow(msg message) {
	switch {
	case msg.kind == kindState && (msg.run != m.run || msg.index > m.last):
		m.run, m.last, m.asked = msg.run, msg.index, false
		m.emit(membership.GroupRestore{Index: msg.index, State: msg.data})
	case msg.kind == kindState:
	case msg.run == m.run && msg.index == m.last+1:
		m.deliver(entry{msg.index, msg.data})
	case msg.run == m.run && msg.index <= m.last:
	case m.asked && m.now < m.askAt.Add(askAgain): // the answer is behind this one on the same connection
	default:
		m.ask()
	}
}

func (m *Machine) compact(in membership.GroupCompact) {
	if in.Index > m.last || in.Index <= m.base {
		return
	}
	m.base, m.state = in.Index, slices.Clone(in.State)
	m.log = slices.Clone(slices.DeleteFunc(m.log, func(e entry) bool { return e.index <= in.Index }))
}

// WantsCompact says that enough entries are kept for a GroupCompact.
func (m *Machine) WantsCompact() bool { return len(m.log) >= m.cfg.Keep }

// Status is what the machine says of itself.
func (m *Machine) Status() membership.GroupStatus {
	s := membership.GroupStatus{
		Formed: true, ClusterID: fmt.Sprintf("static-%016x", m.run), Leader: m.seq, Term: 1, LastTerm: 1,
		LastIndex: m.last, Applied: m.last, Voter: m.seq == m.cfg.Self,
		Voters: []membership.NodeID{m.seq}, Learners: slices.Clone(m.cfg.Members[1:]),
	}
	if m.seq != m.cfg.Self && (!slices.Contains(m.up, m.seq) || m.run == 0) {
		s.Waiting = fmt.Sprintf("%s, which orders everything, is not connected", m.cfg.Name(m.seq))
		s.Do = fmt.Sprintf("start quorated on %s; if it runs there, look at both ends with: quorated -check", m.cfg.Name(m.seq))
	}
	return s
}

func (m *Machine) send(to membership.NodeID, msg message) {
	if to != m.cfg.Self && slices.Contains(m.up, to) && slices.Contains(m.cfg.Members, to) {
		m.emit(membership.GroupSend{To: to, Data: msg.encode()})
	}
}

func (m *Machine) emit(e membership.GroupEffect) { m.out = append(m.out, e) }

// The kinds of message.
const (
	kindAsk     = 1 + iota // a node tells the sequencer where it is
	kindPropose            // and what it wants ordered
	kindState              // the sequencer gives the state as of an index
	kindEntry              // and each entry after it
)

const (
	wireVersion = 1
	wireHeader  = 18
	maxData     = 15 << 20
)

var errWire = errors.New("unreadable message")

type message struct {
	kind       byte
	run, index uint64
	data       []byte
}

func (m message) encode() []byte {
	b := append(make([]byte, 0, wireHeader+len(m.data)), wireVersion, m.kind)
	b = binary.BigEndian.AppendUint64(b, m.run)
	b = binary.BigEndian.AppendUint64(b, m.index)
	return append(b, m.data...)
}

func parse(b []byte) (message, error) {
	if len(b) < wireHeader || len(b) > wireHeader+maxData || b[0] != wireVersion {
		return message{}, errWire
	}
	m := message{
		kind: b[1], run: binary.BigEndian.Uint64(b[2:]), index: binary.BigEndian.Uint64(b[10:]),
		data: slices.Clone(b[wireHeader:]),
	}
	switch {
	case m.kind < kindAsk || m.kind > kindEntry,
		(m.kind == kindPropose || m.kind == kindEntry) && len(m.data) == 0,
		(m.kind == kindState || m.kind == kindEntry) && m.run == 0:
		return message{}, errWire
	}
	return m, nil
}
