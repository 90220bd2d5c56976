package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/dchest/siphash"

	"github.com/quorate/quorate/membership"
)

// Size is the length of every datagram, in bytes.
const Size = 96

// Magic is how every datagram begins, little endian: "QPB1".
const Magic = 0x31425051

const (
	version = 1
	tagged  = Size - 8
)

// Type tells a probe from its reply.
type Type uint8

// The types.
const (
	TypeProbe     Type = 1
	TypeReply     Type = 2
	TypeLong      Type = 3 // a long probe
	TypeLongReply Type = 4 // and its reply
)

func (t Type) String() string {
	switch t {
	case TypeProbe:
		return "probe"
	case TypeReply:
		return "reply"
	case TypeLong:
		return "long probe"
	case TypeLongReply:
		return "long reply"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

const (
	// FlagKernel in a reply says that the kernel answered, not the daemon; in a probe,
	// that the answer that its Stamp names was the kernel's.
	FlagKernel = 1 << 0
	// FlagNoDaemon in a reply of the kernel says that no process of the node has the
	// probes' port open: its daemon has ended.
	FlagNoDaemon = 1 << 1
)

// The ways in which bytes are not a packet of ours.
var (
	ErrLength  = errors.New("not the length of a probe")
	ErrMagic   = errors.New("not a probe")
	ErrVersion = errors.New("a probe of another version")
	ErrType    = errors.New("neither a probe nor a reply")
)

// Packet is the contents of one datagram. See the package's layout.
type Packet struct {
	Type     Type
	Link     uint8
	Flags    uint8
	Src, Dst membership.NodeID
	Epoch    uint32
	Seq      uint64
	Prober   uint64          // instance
	Sent     membership.Mono // of the prober's clock

	Responder uint64          // epoch
	Stamp     membership.Mono // of the responder's clock; in a probe, of its newest answer that counted
	Progress  uint64
	Age       time.Duration
	View      uint64

	Length uint16 // of a long one: bytes of the datagram
	Answer uint16 // of a long probe: bytes that its reply shall have
}

// Parse reads a datagram's fields. It looks at the form alone: call Verify
// before believing any of it.
func Parse(b []byte) (Packet, error) {
	if len(b) != Size {
		return Packet{}, ErrLength
	}
	return parse(b, TypeProbe, TypeReply)
}

// parse reads the first Size bytes of a datagram of one of two types.
func parse(b []byte, probe, reply Type) (Packet, error) {
	le := binary.LittleEndian
	switch {
	case le.Uint32(b) != Magic:
		return Packet{}, ErrMagic
	case b[4] != version:
		return Packet{}, ErrVersion
	case Type(b[5]) != probe && Type(b[5]) != reply:
		return Packet{}, ErrType
	}
	return Packet{
		Type:      Type(b[5]),
		Link:      b[6],
		Flags:     b[7],
		Src:       membership.NodeID(le.Uint32(b[8:])),
		Dst:       membership.NodeID(le.Uint32(b[12:])),
		Epoch:     le.Uint32(b[16:]),
		Seq:       le.Uint64(b[24:]),
		Prober:    le.Uint64(b[32:]),
		Sent:      membership.Mono(le.Uint64(b[40:])),
		Responder: le.Uint64(b[48:]),
		Stamp:     membership.Mono(le.Uint64(b[56:])),
		Progress:  le.Uint64(b[64:]),
		Age:       time.Duration(min(le.Uint64(b[72:]), math.MaxInt64)),
		View:      le.Uint64(b[80:]),
	}, nil
}

// Marshal writes the packet with the key's epoch and its tag. A negative age is
// written as 0.
func (p *Packet) Marshal(b *[Size]byte, k Key) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], Magic)
	b[4], b[5], b[6], b[7] = version, byte(p.Type), p.Link, p.Flags
	le.PutUint32(b[8:], uint32(p.Src))
	le.PutUint32(b[12:], uint32(p.Dst))
	le.PutUint32(b[16:], k.epoch)
	le.PutUint16(b[20:], p.Length)
	le.PutUint16(b[22:], p.Answer)
	le.PutUint64(b[24:], p.Seq)
	le.PutUint64(b[32:], p.Prober)
	le.PutUint64(b[40:], uint64(p.Sent))
	le.PutUint64(b[48:], p.Responder)
	le.PutUint64(b[56:], uint64(p.Stamp))
	le.PutUint64(b[64:], p.Progress)
	le.PutUint64(b[72:], uint64(max(p.Age, 0)))
	le.PutUint64(b[80:], p.View)
	le.PutUint64(b[tagged:], k.tag(b[:tagged]))
}

// Verify says whether the datagram, of Size bytes, or that many of a long one, carries the
// key's tag.
func Verify(b []byte, k Key) bool {
	if len(b) != Size || k.words == nil {
		return false
	}
	return binary.LittleEndian.Uint64(b[tagged:]) == k.tag(b[:tagged])
}

// Reply returns the answer to a probe, without the responder's part.
func (p *Packet) Reply() Packet {
	return Packet{
		Type: TypeReply, Link: p.Link, Src: p.Dst, Dst: p.Src, Epoch: p.Epoch,
		Seq: p.Seq, Prober: p.Prober, Sent: p.Sent,
	}
}

func (k Key) tag(b []byte) uint64 { return siphash.Hash(k.words[0], k.words[1], b) }
