package raft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/confchange"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/membership"
)

// wireVersion is the first byte of every message between two groups.
const wireVersion = 1

// The kinds of message, the second byte.
const (
	kindHello byte = 1 + iota
	kindForm
	kindRaft
	kindState
	kindPledge
)

const (
	maxClusterID = 64
	maxSeen      = 2 * maxNodes
)

// ErrWire is a message that this version cannot read.
var ErrWire = errors.New("unreadable group message")

// unmarshal drops fields that this version does not know: raft compares whole
// messages with what it made itself, and panics on a difference.
var unmarshal = proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal

// hello is what a node says of itself to one peer.
type hello struct {
	clusterID string // empty: this node is empty
	raftID    uint64
	hash      [32]byte
	term      uint64 // of its hard state
	lastIndex uint64 // of its log
	retired   bool   // the raft id that the receiver announced was replaced
	lost      bool   // it had a log, and has none
	noDisk    bool   // its log cannot be written any more
	vetted    bool   // it does not have to give its log up
	witness   bool   // it makes no snapshots, and wants to be given the consumers' state
	gen       Generation
	commit    uint64 // so far the log is ordered, and that is on the disk
	making    uint64 // ID of the generation that it is making; 0: none
	conf      agreed // the newest configuration that it knows to be ordered
	seen      []seen // what raft ids acknowledged, as far as the sender knows; ascending
}

// seen is the highest term, and in it the highest index, that a raft id proved
// to have on its disk.
type seen struct {
	id, term, index uint64
}

// form hands a cluster's identity to an empty node whose raft id is in it.
type form struct {
	clusterID string
	raftID    uint64       // of the receiver
	genesis   *pb.Snapshot // nil: join with an empty log, the leader sends the rest
}

func encodeHello(h hello) []byte {
	b := make([]byte, 0, 128+24*len(h.seen))
	b = append(b, wireVersion, kindHello)
	b = appendString(b, h.clusterID)
	b = binary.BigEndian.AppendUint64(b, h.raftID)
	b = append(b, h.hash[:]...)
	b = binary.BigEndian.AppendUint64(b, h.term)
	b = binary.BigEndian.AppendUint64(b, h.lastIndex)
	b = append(b, boolByte(h.retired), boolByte(h.lost), boolByte(h.noDisk), boolByte(h.witness), boolByte(h.vetted))
	b = binary.BigEndian.AppendUint64(appendGeneration(b, h.gen), h.making)
	b = binary.BigEndian.AppendUint64(b, h.commit)
	b = appendAgreed(b, h.conf)
	b = binary.BigEndian.AppendUint32(b, uint32(len(h.seen)))
	for _, s := range h.seen {
		b = binary.BigEndian.AppendUint64(b, s.id)
		b = binary.BigEndian.AppendUint64(b, s.term)
		b = binary.BigEndian.AppendUint64(b, s.index)
	}
	return b
}

func parseHello(b []byte) (hello, error) {
	r := reader{b: b}
	h := hello{clusterID: r.string(maxClusterID), raftID: r.uint64()}
	copy(h.hash[:], r.bytes(len(h.hash)))
	h.term, h.lastIndex = r.uint64(), r.uint64()
	h.retired, h.lost, h.noDisk, h.witness, h.vetted = r.bool(), r.bool(), r.bool(), r.bool(), r.bool()
	h.gen, h.making, h.commit = r.generation(), r.uint64(), r.uint64()
	h.conf = r.agreed()
	for range r.count(maxSeen, 24) {
		s := seen{r.uint64(), r.uint64(), r.uint64()}
		if k := len(h.seen); k > 0 && h.seen[k-1].id >= s.id {
			return hello{}, fmt.Errorf("hello: order of ids: %w", ErrWire)
		}
		h.seen = append(h.seen, s)
	}
	if err := r.end(); err != nil {
		return hello{}, fmt.Errorf("hello: %w", err)
	}
	if !validID(h.raftID) {
		return hello{}, fmt.Errorf("hello: raft id %d: %w", h.raftID, ErrWire)
	}
	return h, nil
}

func encodeForm(f form) ([]byte, error) {
	b := []byte{wireVersion, kindForm}
	b = appendString(b, f.clusterID)
	b = binary.BigEndian.AppendUint64(b, f.raftID)
	if f.genesis == nil {
		return b, nil
	}
	return proto.MarshalOptions{}.MarshalAppend(b, f.genesis)
}

func parseForm(b []byte) (form, error) {
	r := reader{b: b}
	f := form{clusterID: r.string(maxClusterID), raftID: r.uint64()}
	if r.err != nil || f.clusterID == "" || !validID(f.raftID) {
		return form{}, fmt.Errorf("form: %w", ErrWire)
	}
	if len(r.b) == 0 {
		return f, nil
	}
	f.genesis = &pb.Snapshot{}
	if err := unmarshal(r.b, f.genesis); err != nil {
		return form{}, fmt.Errorf("form: genesis: %w", ErrWire)
	}
	md := f.genesis.GetMetadata()
	m, _, err := parseMembers(f.genesis.GetData())
	if err != nil || md.GetIndex() != 1 || md.GetTerm() != 1 || !agree(m, md.GetConfState()) {
		return form{}, fmt.Errorf("form: not a genesis: %w", ErrWire)
	}
	return f, nil
}

// agree says whether members and configuration name the same ids, each once.
func agree(m members, cs *pb.ConfState) bool {
	if len(cs.GetVoters()) == 0 || len(cs.GetVoters())+len(cs.GetLearners()) != len(m.list) || isJoint(cs) {
		return false
	}
	for _, e := range m.list {
		if isVoter(cs, e.id) == isLearner(cs, e.id) {
			return false
		}
	}
	return true
}

// pledgeMessage asks for a word, or gives it.
type pledgeMessage struct {
	Pledge
	ask         bool
	term, index uint64 // of the asker's last entry
}

func encodePledge(p pledgeMessage) []byte {
	b := append([]byte{wireVersion, kindPledge}, boolByte(p.ask))
	b = appendGeneration(b, p.Generation)
	for _, v := range []uint64{p.Maker, p.term, p.index} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func parsePledge(b []byte) (pledgeMessage, error) {
	r := reader{b: b}
	p := pledgeMessage{ask: r.bool(), Pledge: Pledge{Generation: r.generation(), Maker: r.uint64()}, term: r.uint64(), index: r.uint64()}
	if err := r.end(); err != nil {
		return pledgeMessage{}, fmt.Errorf("pledge: %w", err)
	}
	if !validID(p.Maker) || p.Number == 0 || p.ID == 0 {
		return pledgeMessage{}, fmt.Errorf("pledge: generation %d of %x: %w", p.Number, p.Maker, ErrWire)
	}
	return p, nil
}

func encodeRaft(m *pb.Message) ([]byte, error) {
	b := make([]byte, 2, 2+proto.Size(m))
	b[0], b[1] = wireVersion, kindRaft
	return proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, m)
}

func parseRaft(b []byte) (*pb.Message, error) {
	m := &pb.Message{}
	if err := unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("raft message: %v: %w", err, ErrWire)
	}
	if err := checkRaft(m); err != nil {
		return nil, err
	}
	return m, nil
}

// peerMessages are the types that a peer may send, with whether they carry a term.
var peerMessages = map[pb.MessageType]bool{
	pb.MsgProp: false, pb.MsgApp: true, pb.MsgAppResp: true, pb.MsgVote: true, pb.MsgVoteResp: true,
	pb.MsgSnap: true, pb.MsgHeartbeat: true, pb.MsgHeartbeatResp: true, pb.MsgTimeoutNow: true,
	pb.MsgPreVote: true, pb.MsgPreVoteResp: true,
}

// checkRaft refuses what raft itself would not expect of a peer: it panics on some of it.
func checkRaft(m *pb.Message) error {
	hasTerm, ok := peerMessages[m.GetType()]
	if m.Type == nil || !ok || hasTerm != (m.GetTerm() != 0) || len(m.GetResponses()) > 0 ||
		!validID(m.GetFrom()) || !validID(m.GetTo()) {
		return fmt.Errorf("raft message %v from %x to %x: %w", m.GetType(), m.GetFrom(), m.GetTo(), ErrWire)
	}
	switch m.GetType() {
	case pb.MsgProp:
		return checkProposal(m)
	case pb.MsgApp:
		return checkAppend(m)
	case pb.MsgSnap:
		return checkSnapshot(m.GetSnapshot(), m.GetTerm())
	}
	if len(m.GetEntries()) > 0 {
		return fmt.Errorf("%v with entries: %w", m.GetType(), ErrWire)
	}
	return nil
}

// checkProposal: a follower forwards data alone; configuration is the leader's.
func checkProposal(m *pb.Message) error {
	if len(m.GetEntries()) == 0 {
		return fmt.Errorf("empty proposal: %w", ErrWire)
	}
	for _, e := range m.GetEntries() {
		if e.GetType() != pb.EntryNormal || len(e.GetData()) == 0 {
			return fmt.Errorf("proposal of %v: %w", e.GetType(), ErrWire)
		}
	}
	return nil
}

func checkAppend(m *pb.Message) error {
	term := m.GetLogTerm()
	for i, e := range m.GetEntries() {
		if e.GetIndex() != m.GetIndex()+1+uint64(i) || e.GetTerm() < term || e.GetTerm() > m.GetTerm() {
			return fmt.Errorf("append: entry %d of term %d: %w", e.GetIndex(), e.GetTerm(), ErrWire)
		}
		term = e.GetTerm()
		if err := checkEntry(e); err != nil {
			return err
		}
	}
	return nil
}

func checkEntry(e *pb.Entry) error {
	switch e.GetType() {
	case pb.EntryNormal:
		return nil
	case pb.EntryConfChangeV2:
		_, _, err := parseChange(e.GetData())
		return err
	}
	return fmt.Errorf("entry of type %v: %w", e.GetType(), ErrWire)
}

// parseChange reads a configuration entry and the members that it names.
func parseChange(data []byte) (*pb.ConfChangeV2, members, error) {
	cc := &pb.ConfChangeV2{}
	if err := unmarshal(data, cc); err != nil {
		return nil, members{}, fmt.Errorf("configuration entry: %w", ErrWire)
	}
	if len(cc.GetContext()) == 0 {
		return cc, members{}, nil
	}
	m, rest, err := parseMembers(cc.GetContext())
	if err != nil || len(rest) > 0 {
		return nil, members{}, fmt.Errorf("configuration entry: members: %w", ErrWire)
	}
	return cc, m, nil
}

func checkSnapshot(s *pb.Snapshot, term uint64) error {
	md := s.GetMetadata()
	if md.GetIndex() == 0 || md.GetTerm() == 0 || md.GetTerm() > term || !restorable(md.GetConfState()) {
		return fmt.Errorf("snapshot at %d: %w", md.GetIndex(), ErrWire)
	}
	if _, _, err := parseMembers(s.GetData()); err != nil {
		return fmt.Errorf("snapshot at %d: %w", md.GetIndex(), ErrWire)
	}
	return nil
}

// restorable says whether raft can take a configuration from a snapshot; it
// panics on one that does not come out as it went in.
func restorable(cs *pb.ConfState) bool {
	if len(cs.GetVoters()) == 0 || len(cs.GetVoters())+len(cs.GetVotersOutgoing())+len(cs.GetLearners())+len(cs.GetLearnersNext()) > maxSeen {
		return false
	}
	t := tracker.MakeProgressTracker(1, 0)
	var err error
	t.Config, t.Progress, err = confchange.Restore(confchange.Changer{Tracker: t}, cs)
	return err == nil && cs.Equivalent(t.ConfState()) == nil
}

// envelope splits a message into its kind and body.
func envelope(data []byte) (kind byte, body []byte, err error) {
	if len(data) < 2 || len(data) > membership.MaxMessage {
		return 0, nil, fmt.Errorf("%d bytes: %w", len(data), ErrWire)
	}
	if data[0] != wireVersion {
		return 0, nil, fmt.Errorf("version %d, this is %d: %w", data[0], wireVersion, ErrWire)
	}
	return data[1], data[2:], nil
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// reader takes fields off a byte slice; after the first that is missing err is set
// and all further ones are zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) bytes(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.err = ErrWire
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) uint32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) bool() bool {
	b := r.bytes(1)
	if b != nil && b[0] > 1 {
		r.err = ErrWire
	}
	return b != nil && b[0] == 1
}

func (r *reader) string(limit int) string {
	n := r.uint32()
	if n > uint32(limit) {
		r.err = ErrWire
		return ""
	}
	return string(r.bytes(int(n)))
}

// count reads how many items of a size follow.
func (r *reader) count(limit, size int) int {
	n := r.uint32()
	if n > uint32(limit) || int(n)*size > len(r.b) {
		r.err = ErrWire
		return 0
	}
	return int(n)
}

func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = ErrWire
	}
	return r.err
}
