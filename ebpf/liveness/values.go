package liveness

import (
	"encoding/binary"
	"math"
	"net/netip"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// What lies in the maps, as bpf/maps.h has it.

type selfValue struct {
	Epoch, Ticked, Progress, View uint64
	Node                          uint32
	Port                          [2]byte
	_                             uint16
	Run, Late, Silent             uint64
}

type ownValue struct{ Link, Generic, Ifindex uint32 }

// home is what is known of an own address: the interface whose frames are to it, and
// whether they come to the stack's hook.
type home struct {
	ifindex uint32 // 0: any
	generic bool
}

// nowhere is the interface of an address that none has.
const nowhere = math.MaxUint32

func homeOf(v ownValue) home { return home{v.Ifindex, v.Generic != 0} }

type keyValue struct{ K0, K1 uint64 }

type peerKey struct{ Node, Link uint32 }

type peerValue struct {
	Addr                  [16]byte
	Instance, Cost, Trust uint64
	Port                  [2]byte
	_                     uint16
	Slot                  uint32
	Epoch                 uint64
}

// identity is what a peer's authenticated connection named; 0: not known.
type identity struct{ Instance, Epoch uint64 }

type bucketValue struct{ Level, Last uint64 }

type stateValue struct {
	Lock, _                                   uint32
	Instance, Newest, Seen                    uint64
	Known, Others                             bucketValue
	Asked, Replied, Acked, AckedUser, Answers uint64
	NewestAnswer, LastButOne                  uint64
	Run, Heard, Answered                      uint64
}

type stampValue struct {
	Version, At, Sequence, Age, Run          uint64
	Node, Link                               uint32
	Answered, Epoch, Responder, View, Kernel uint64
}

// silenceValue is a record that a timer leaves.
type silenceValue struct {
	At, Run    uint64
	Node, Link uint32
}

func parseSilence(b []byte) (v silenceValue, ok bool) {
	if len(b) < 24 {
		return v, false
	}
	e := nativeEndian
	return silenceValue{e.Uint64(b), e.Uint64(b[8:]), e.Uint32(b[16:]), e.Uint32(b[20:])}, true
}

// newState has a second's worth of answers, as a new target of the daemon's.
func newState() stateValue {
	full := bucketValue{Level: uint64(time.Second)}
	return stateValue{Known: full, Others: full}
}

// addrValue writes IPv4 as ::ffff:a.b.c.d.
func addrValue(a netip.Addr) [16]byte { return a.As16() }

func portValue(p uint16) (b [2]byte) {
	binary.BigEndian.PutUint16(b[:], p)
	return b
}

func (p Peer) key() peerKey { return peerKey{uint32(p.Node), uint32(p.Link)} }

func (p Peer) value(is identity, slot uint32) peerValue {
	return peerValue{
		Addr: addrValue(p.Addr.Addr()), Port: portValue(p.Addr.Port()), Instance: is.Instance, Epoch: is.Epoch, Slot: slot,
		Cost: uint64(int64(time.Second) / int64(max(p.Rate, 1))), Trust: uint64(max(p.Trust, 0)),
	}
}

func keyOf(k probe.Key) keyValue {
	k0, k1 := k.Words()
	return keyValue{k0, k1}
}

// PeerState is what the kernel saw of a peer on a link. Times are of the boot clock;
// 0: never.
type PeerState struct {
	Node membership.NodeID `json:"node"`
	Link int               `json:"link"`
	// Asked is its last authentic probe, Replied its last authentic answer.
	Asked   membership.Mono `json:"asked"`
	Replied membership.Mono `json:"replied"`
	// Acked is the stamp of the last answer of this kernel that the peer said it had
	// heard, AckedUser the same of answers of this node's daemon.
	Acked     membership.Mono `json:"acked"`
	AckedUser membership.Mono `json:"acked_user"`
	Answers   uint64          `json:"answers"` // by this kernel
}

func (k peerKey) state(v stateValue) PeerState {
	return PeerState{
		Node: membership.NodeID(k.Node), Link: int(k.Link),
		Asked: membership.Mono(v.Asked), Replied: membership.Mono(v.Replied),
		Acked: membership.Mono(v.Acked), AckedUser: membership.Mono(v.AckedUser), Answers: v.Answers,
	}
}
