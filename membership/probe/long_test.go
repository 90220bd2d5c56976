package probe

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership"
)

func testLong() Packet {
	p := testProbe()
	p.Type, p.Length, p.Answer = TypeLong, 0x0123, 0x0102
	return p
}

// long is a long datagram; what is behind the record nobody looks at.
func long(p Packet, n int, k Key) []byte {
	var head [Size]byte
	p.Marshal(&head, k)
	return append(head[:], bytes.Repeat([]byte{0xa5}, n-Size)...)
}

func TestParseLong(t *testing.T) {
	p := testLong()
	got, err := ParseLong(long(p, int(p.Length), testKey(9)))
	if err != nil || got != p {
		t.Errorf("a long probe: %+v, %v", got, err)
	}
	r := p.LongReply()
	if got, err = ParseLong(long(r, int(p.Answer), testKey(9))); err != nil || got != r || got.Type != TypeLongReply || got.Seq != p.Seq {
		t.Errorf("its reply: %+v, %v", got, err)
	}
	with := func(edit func(*Packet), n int) []byte {
		q := testLong()
		edit(&q)
		return long(q, n, testKey(9))
	}
	for _, c := range []struct {
		name string
		b    []byte
		want error
	}{
		{"nothing", nil, ErrLength},
		{"cut", with(func(*Packet) {}, 0x0122), ErrLength},
		{"made longer", with(func(*Packet) {}, 0x0124), ErrLength},
		{"cut to its record", with(func(*Packet) {}, Size), ErrLength},
		{"a short one", with(func(p *Packet) { p.Length, p.Answer = Size, Size }, Size), ErrLength},
		{"too long", with(func(p *Packet) { p.Length = MaxLong + 1 }, MaxLong+1), ErrLength},
		{"a longer answer", with(func(p *Packet) { p.Answer = p.Length + 1 }, 0x0123), ErrLength},
		{"an answer that is a reply's length", with(func(p *Packet) { p.Answer = Size }, 0x0123), ErrLength},
		{"no answer", with(func(p *Packet) { p.Answer = 0 }, 0x0123), ErrLength},
		{"a probe that was made longer", with(func(p *Packet) { p.Type = TypeProbe }, 0x0123), ErrType},
		{"a reply that was", with(func(p *Packet) { p.Type = TypeReply }, 0x0123), ErrType},
	} {
		if _, err := ParseLong(c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := Parse(long(p, Size, testKey(9))); !errors.Is(err, ErrType) {
		t.Errorf("the record of a long probe as a probe: %v", err)
	}
}

func FuzzParseLong(f *testing.F) {
	p := testLong()
	r := p.LongReply()
	f.Add(long(p, int(p.Length), testKey(9)))
	f.Add(long(r, int(r.Length), testKey(9)))
	f.Add([]byte("QPB1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseLong(b)
		if err != nil {
			return
		}
		if r := p.LongReply(); p.Type == TypeLong && (int(r.Length) > len(b) || r.Length < MinLong) {
			t.Errorf("%d bytes are answered with %d", len(b), r.Length)
		}
		again, err := ParseLong(long(p, len(b), testKey(p.Epoch)))
		if err != nil || again != p {
			t.Errorf("%+v became %+v, %v", p, again, err)
		}
	})
}

// hole is a path that loses long packets.
type hole struct {
	l           Longs
	now         membership.Mono
	there, back int  // longest datagrams that arrive
	stopped     bool // the peer's daemon
	sent        int
	last        []Packet
}

const full = 1472

func newHole() *hole {
	return &hole{now: membership.Mono(time.Hour), there: MaxLong, back: MaxLong}
}

// rounds lets so many rounds pass.
func (h *hole) rounds(n, size int) {
	for range n {
		h.now = h.now.Add(time.Second)
		h.last = nil
		for i := range h.l.Begin(size) {
			var q Packet
			h.l.Next(i, &q, h.now)
			h.sent++
			h.last = append(h.last, q)
			if r := q.LongReply(); !h.stopped && int(q.Length) <= h.there && int(r.Length) <= h.back {
				h.l.Accept(&r)
			}
		}
	}
}

func TestLongsOfAWholePath(t *testing.T) {
	h := newHole()
	h.rounds(100, full)
	if h.sent != 100 || h.last[0].Length != full || h.last[0].Answer != full || h.l.Loss() != (membership.LongLoss{}) || h.l.Size() != full {
		t.Errorf("%d were sent, the last %+v; loss %+v", h.sent, h.last, h.l.Loss())
	}
}

func TestBlackHole(t *testing.T) {
	for name, c := range map[string]struct {
		there, back int
		want        bool
	}{"there": {1400, MaxLong, true}, "back": {MaxLong, 1400, false}, "both ways": {1400, 1400, true}} {
		h := newHole()
		h.rounds(10, full)
		h.there, h.back = c.there, c.back
		h.rounds(1, full) // not known yet, and not counted: it may be the daemon
		first := h.now
		h.rounds(LongLost, full)
		if got := h.l.Loss(); got.Size != 0 {
			t.Errorf("%s: too early: %+v", name, got)
		}
		h.rounds(1, full)
		want := membership.LongLoss{Size: full, There: c.want, Since: first.Add(time.Second)}
		if got := h.l.Loss(); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		h.rounds(20, full)
		h.there, h.back = MaxLong, MaxLong
		h.rounds(2, full) // one good round
		h.there, h.back = c.there, c.back
		h.rounds(1, full)
		h.there, h.back = MaxLong, MaxLong
		h.rounds(LongLost, full)
		if got := h.l.Loss(); got != want {
			t.Errorf("%s: after a good round and a bad one: %+v, want %+v", name, got, want)
		}
		h.rounds(1, full)
		if got := h.l.Loss(); got.Size != 0 {
			t.Errorf("%s: mended: %+v", name, got)
		}
		h.rounds(1, full)
		if len(h.last) != 1 {
			t.Errorf("%s: mended, and %d probes a round", name, len(h.last))
		}
	}
}

// A peer that answers none of them, as one whose daemon stands still behind a kernel that
// answers, has no black hole before it, and one that was there stays.
func TestNoAnswerSaysNothing(t *testing.T) {
	h := newHole()
	h.stopped = true
	h.rounds(100, full)
	if got := h.l.Loss(); got.Size != 0 {
		t.Errorf("of one that never answered: %+v", got)
	}
	h.stopped, h.there = false, 1400
	h.rounds(20, full)
	was := h.l.Loss()
	h.stopped = true
	h.rounds(20, full)
	if got := h.l.Loss(); got != was || was.Size == 0 {
		t.Errorf("%+v became %+v", was, got)
	}
}

func TestMTUChanges(t *testing.T) {
	h := newHole()
	h.there = 1400
	h.rounds(20, full)
	h.rounds(10, 1400)
	if got := h.l.Loss(); got.Size != 0 || h.l.Size() != 1400 {
		t.Errorf("at %d: %+v", h.l.Size(), got)
	}
	h.rounds(20, 20000)
	if got := h.l.Loss(); got.Size != MaxLong {
		t.Errorf("of more than can be sent: %+v", got)
	}
	sent := h.sent
	h.rounds(10, -28)
	h.rounds(10, MinLong)
	if h.sent != sent || h.l.Size() != 0 || h.l.Loss() != (membership.LongLoss{}) {
		t.Errorf("%d were sent where it is not known what fits", h.sent-sent)
	}
}

// What this node could not send itself counts as nothing.
func TestUnsent(t *testing.T) {
	h := newHole()
	for range 50 {
		n := h.l.Begin(full)
		for i := range n {
			var q Packet
			h.l.Next(i, &q, h.now)
			if r := q.LongReply(); i == longShort {
				h.l.Accept(&r)
			} else {
				h.l.Unsent(i)
			}
		}
	}
	if got := h.l.Loss(); got.Size != 0 {
		t.Errorf("%+v", got)
	}
}

func TestLongAccept(t *testing.T) {
	var l Longs
	if got := l.Accept(&Packet{Seq: 1}); got != Unasked {
		t.Errorf("before anything was sent: %v", got)
	}
	l.Begin(full)
	var first, q Packet
	l.Next(0, &first, 10)
	l.Begin(full)
	l.Next(0, &q, 20)
	r := q.LongReply()
	for _, c := range []struct {
		name string
		edit func(*Packet)
		want Verdict
	}{
		{"of sequence 0", func(p *Packet) { p.Seq = 0 }, Unasked},
		{"of the future", func(p *Packet) { p.Seq = 3 }, Unasked},
		{"of another time", func(p *Packet) { p.Sent = 19 }, Unasked},
		{"shorter than was asked for", func(p *Packet) { p.Length = MinLong }, Unasked},
		{"of the last round", func(p *Packet) { *p = first.LongReply() }, Late},
		{"the answer", func(*Packet) {}, Fresh},
		{"again", func(*Packet) {}, Old},
	} {
		x := r
		c.edit(&x)
		if got := l.Accept(&x); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestLongsProperty: there is a loss only after LongLost rounds in a row of which the short one
// was answered and the whole one was not, and none after as many good ones.
func TestLongsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l Longs
		bad, good := 0, 0
		now := membership.Mono(0)
		for range rapid.IntRange(1, 60).Draw(t, "rounds") {
			n := l.Begin(full)
			switch {
			case l.Loss().Size != 0 && good >= LongLost:
				t.Fatalf("lost after %d good rounds", good)
			case l.Loss().Size == 0 && bad >= LongLost:
				t.Fatalf("well after %d bad rounds", bad)
			}
			whole, short := false, false
			for i := range n {
				var q Packet
				now++
				l.Next(i, &q, now)
				if int(q.Answer) > int(q.Length) {
					t.Fatalf("asks for more than it is: %+v", q)
				}
				if rapid.IntRange(0, 3).Draw(t, "answered") > 0 == (i != longWhole) {
					r := q.LongReply()
					l.Accept(&r)
					whole, short = whole || i == longWhole, short || i == longShort
				}
			}
			switch {
			case whole:
				good, bad = good+1, 0
			case short:
				good, bad = 0, bad+1
			}
		}
	})
}
