package probe

import (
	"github.com/quorate/quorate/membership"
)

// The lengths of the datagrams of long probes and their replies, in bytes.
const (
	MinLong = Size + 8 // one that is not long: it differs from a probe by its length, too
	MaxLong = 9188     // fills an IPv4 packet of 9216 bytes
)

const (
	// LongEvery is after how many probes of a peer and link a round of long ones begins.
	LongEvery = 10
	// LongLost is how many rounds in a row have to be lost, or not, until Longs says so.
	LongLost = 5
)

// ParseLong is Parse of a long probe or its reply.
func ParseLong(b []byte) (Packet, error) {
	if len(b) < MinLong || len(b) > MaxLong {
		return Packet{}, ErrLength
	}
	p, err := parse(b, TypeLong, TypeLongReply)
	if err != nil {
		return Packet{}, err
	}
	p.Length, p.Answer = uint16(b[20])|uint16(b[21])<<8, uint16(b[22])|uint16(b[23])<<8
	if int(p.Length) != len(b) || p.Type == TypeLong && (p.Answer < MinLong || p.Answer > p.Length) {
		return Packet{}, ErrLength
	}
	return p, nil
}

// LongReply returns the reply to a long probe, without the responder's part.
func (p *Packet) LongReply() Packet {
	r := p.Reply()
	r.Type, r.Length = TypeLongReply, p.Answer
	return r
}

// Longs judges the long probes of one peer and link. The zero value has sent none.
type Longs struct {
	size  int    // of a long one; 0: it is not known what fits
	last  uint64 // newest sequence
	round [longKinds]longProbe

	good, bad int             // rounds in a row
	from      membership.Mono // when the first of the bad ones was sent
	there     bool            // the last of them was lost on the way to the peer
	lost      bool
}

// What there is in a round, in the order in which it is sent.
const (
	longWhole = iota // long both ways
	longThere        // long on the way there
	longShort        // short both ways
	longKinds
)

type longProbe struct {
	seq      uint64 // 0: not sent
	sent     membership.Mono
	answer   int
	answered bool
}

// From has the sequences begin after this one. It is called before anything is sent.
func (l *Longs) From(seq uint64) { l.last = seq }

// Begin judges the last round, and says how many probes of the next one are to be sent, for
// datagrams of so many bytes. What was known of another size is forgotten; 0 sends none.
func (l *Longs) Begin(size int) int {
	size = min(size, MaxLong)
	if size <= MinLong {
		size = 0
	}
	if size != l.size {
		*l = Longs{size: size, last: l.last}
	}
	whole, failed := l.round[longWhole], false
	if whole.seq != 0 {
		l.judge()
		failed = !whole.answered
	}
	l.round = [longKinds]longProbe{}
	switch {
	case size == 0:
		return 0
	case failed || l.lost:
		return longKinds
	}
	return 1
}

// judge counts the round. One of which nothing came back says nothing of its length.
func (l *Longs) judge() {
	r := &l.round
	switch {
	case r[longWhole].answered:
		l.good, l.bad = l.good+1, 0
	case r[longShort].answered:
		if l.bad == 0 && !l.lost {
			l.from = r[longWhole].sent
		}
		l.good, l.bad, l.there = 0, l.bad+1, !r[longThere].answered
	}
	switch {
	case !l.lost && l.bad >= LongLost:
		l.lost = true
	case l.lost && l.good >= LongLost:
		l.lost = false
	}
	l.good, l.bad = min(l.good, LongLost), min(l.bad, LongLost)
}

// Next fills in the i-th probe of the round, which is sent now.
func (l *Longs) Next(i int, q *Packet, at membership.Mono) {
	l.last++
	x := longProbe{seq: l.last, sent: at, answer: MinLong}
	length := l.size
	switch i {
	case longWhole:
		x.answer = l.size
	case longShort:
		length = MinLong
	}
	l.round[i] = x
	q.Type, q.Seq, q.Sent, q.Length, q.Answer = TypeLong, x.seq, at, uint16(length), uint16(x.answer)
}

// Unsent takes back the i-th probe of the round: this node could not send it.
func (l *Longs) Unsent(i int) { l.round[i] = longProbe{} }

// Accept judges a reply by what it echoes, and its length.
func (l *Longs) Accept(r *Packet) Verdict {
	if r.Seq == 0 || r.Seq > l.last {
		return Unasked
	}
	for i := range l.round {
		x := &l.round[i]
		switch {
		case x.seq != r.Seq:
			continue
		case x.sent != r.Sent || x.answer != int(r.Length):
			return Unasked
		case x.answered:
			return Old
		}
		x.answered = true
		return Fresh
	}
	return Late
}

// Size is the length of the datagrams that are tried; 0: none are.
func (l *Longs) Size() int { return l.size }

// Loss says what is lost, in datagrams of Size bytes.
func (l *Longs) Loss() (loss membership.LongLoss) {
	if l.lost {
		loss = membership.LongLoss{Size: l.size, There: l.there, Since: l.from}
	}
	return loss
}
