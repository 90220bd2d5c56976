package probe

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership"
)

var update = flag.Bool("update", false, "write the golden files")

func testKey(epoch uint32) Key {
	var b [16]byte
	for i := range b {
		b[i] = byte(i)
	}
	return NewKey(epoch, b)
}

func testProbe() Packet {
	return Packet{
		Type: TypeProbe, Link: 1, Src: 0x01020304, Dst: 0x05060708, Epoch: 9,
		Seq: 0x1112131415161718, Prober: 0x2122232425262728, Sent: 0x3132333435363738,
	}
}

func testReply() Packet {
	p := testProbe()
	r := p.Reply()
	r.Flags = FlagKernel
	r.Responder = 0x4142434445464748
	r.Stamp = 0x5152535455565758
	r.Progress = 0x6162636465666768
	r.Age = 40 * time.Millisecond
	r.View = 7
	return r
}

// The bytes on the wire are a contract with the kernel's program and with
// nodes of another release.
func TestGolden(t *testing.T) {
	for name, p := range map[string]Packet{"probe": testProbe(), "reply": testReply()} {
		var b [Size]byte
		p.Marshal(&b, testKey(9))
		var text strings.Builder
		for i := 0; i < Size; i += 8 {
			fmt.Fprintf(&text, "%2d  % x\n", i, b[i:i+8])
		}
		path := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if text.String() != string(want) {
			t.Errorf("%s:\n%swant\n%s", name, text.String(), want)
		}
		got, err := Parse(b[:])
		if err != nil || got != p {
			t.Errorf("%s: Parse = %+v, %v, want %+v", name, got, err, p)
		}
	}
}

// The reference vector of SipHash-2-4 (key 00..0f, message 00..0e) pins the
// order of the key's halves.
func TestSipHashVector(t *testing.T) {
	msg, _ := hex.DecodeString("000102030405060708090a0b0c0d0e")
	if got := testKey(1).tag(msg); got != 0xa129ca6149be45e5 {
		t.Errorf("tag = %#x", got)
	}
}

func TestParseRefuses(t *testing.T) {
	var good [Size]byte
	p := testProbe()
	p.Marshal(&good, testKey(9))
	edit := func(i int, v byte) []byte {
		b := bytes.Clone(good[:])
		b[i] = v
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		want error
	}{
		{"empty", nil, ErrLength},
		{"short", good[:Size-1], ErrLength},
		{"long", append(bytes.Clone(good[:]), 0), ErrLength},
		{"magic", edit(0, 'X'), ErrMagic},
		{"version", edit(4, 2), ErrVersion},
		{"type 0", edit(5, 0), ErrType},
		{"type 3", edit(5, 3), ErrType},
	} {
		if _, err := Parse(c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestEveryBitIsAuthenticated(t *testing.T) {
	var b [Size]byte
	p := testReply()
	p.Marshal(&b, testKey(9))
	if !Verify(b[:], testKey(9)) {
		t.Fatal("own tag is not believed")
	}
	for i := range Size * 8 {
		b[i/8] ^= 1 << (i % 8)
		if Verify(b[:], testKey(9)) {
			t.Errorf("bit %d may be changed", i)
		}
		b[i/8] ^= 1 << (i % 8)
	}
	if Verify(b[:], NewKey(9, [16]byte{1})) || Verify(b[:], Key{}) || Verify(b[:Size-1], testKey(9)) {
		t.Error("believed with another key, none, or cut short")
	}
}

func TestAgeIsBounded(t *testing.T) {
	var b [Size]byte
	p := testReply()
	p.Age = -time.Second
	p.Marshal(&b, testKey(1))
	if got, _ := Parse(b[:]); got.Age != 0 {
		t.Errorf("negative age became %v", got.Age)
	}
	for i := 72; i < 80; i++ {
		b[i] = 0xff
	}
	if got, _ := Parse(b[:]); got.Age != math.MaxInt64 {
		t.Errorf("huge age became %v", got.Age)
	}
}

func TestKeyNeverPrints(t *testing.T) {
	k := NewKey(3, [16]byte([]byte("0123456789abcdef")))
	k0, k1 := k.Words()
	holder := struct{ K, k any }{k, k}
	text := fmt.Sprintf("%v %+v %#v %s %d %x %v %+v %#v", k, k, k, k, k, k, holder, holder, []Key{k})
	for _, bad := range []string{fmt.Sprint(k0), fmt.Sprint(k1), fmt.Sprintf("%x", k0), fmt.Sprintf("%x", k1)} {
		if strings.Contains(text, bad) {
			t.Errorf("%q shows the key", text)
		}
	}
	if !strings.Contains(k.LogValue().String(), "redacted") || k.Zero() || !(Key{}).Zero() {
		t.Error("LogValue or Zero is wrong")
	}
}

func TestWindow(t *testing.T) {
	var w Window
	at := func(seq uint64) membership.Mono { return membership.Mono(seq * 1000) }
	if got := w.Accept(1, 0); got != Unasked {
		t.Errorf("before anything was sent: %v", got)
	}
	for seq := uint64(1); seq <= 40; seq++ {
		if got := w.Next(at(seq), false); got != seq {
			t.Fatalf("Next = %d, want %d", got, seq)
		}
	}
	for _, c := range []struct {
		seq  uint64
		sent membership.Mono
		want Verdict
	}{
		{0, 0, Unasked},
		{41, at(41), Unasked},
		{math.MaxUint64, 0, Unasked},
		{40 - Outstanding, at(40 - Outstanding), Late},
		{40 - Outstanding + 1, at(1), Unasked},
		{40 - Outstanding + 1, at(40 - Outstanding + 1), Fresh},
		{40 - Outstanding + 1, at(40 - Outstanding + 1), Old},
		{39, at(39), Fresh},
		{38, at(38), Old},
		{40, at(39), Unasked},
		{40, at(40), Fresh},
		{40, at(40), Old},
	} {
		if got := w.Accept(c.seq, c.sent); got != c.want {
			t.Errorf("Accept(%d, %d) = %v, want %v", c.seq, c.sent, got, c.want)
		}
	}
	if w.Sent() != 40 {
		t.Errorf("Sent = %d", w.Sent())
	}
}

func TestReplays(t *testing.T) {
	var r Replays
	for _, c := range []struct {
		seq  uint64
		want bool
	}{
		{0, false}, {1, true}, {1, false}, {3, true}, {2, true}, {2, false}, {3, false},
		{66, true}, {3, false}, {2, false}, {4, true}, {4, false}, {65, true},
		{1000, true}, {66, false}, {936, false}, {937, true}, {937, false},
		{math.MaxUint64, true}, {math.MaxUint64, false}, {1001, false}, {math.MaxUint64 - 63, true}, {0, false},
	} {
		if got := r.Fresh(c.seq); got != c.want {
			t.Errorf("Fresh(%d) = %v, want %v", c.seq, got, c.want)
		}
	}
}

// TestReplaysProperty compares Replays with a list of all that has come.
func TestReplaysProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r Replays
		come, newest := map[uint64]bool{}, uint64(0)
		for _, seq := range rapid.SliceOf(rapid.Uint64Range(0, 300)).Draw(t, "sequences") {
			want := seq != 0 && !come[seq] && (seq > newest || newest-seq < reordered)
			if got := r.Fresh(seq); got != want {
				t.Fatalf("Fresh(%d) = %v after newest %d, want %v", seq, got, newest, want)
			}
			come[seq], newest = true, max(newest, seq)
		}
	})
}

func TestNames(t *testing.T) {
	for v, want := range map[fmt.Stringer]string{
		TypeProbe: "probe", TypeReply: "reply", TypeLong: "long probe", TypeLongReply: "long reply", Type(9): "type 9",
		Fresh: "fresh", Unasked: "unasked", Late: "late", Old: "old", Verdict(9): "unknown verdict",
	} {
		if v.String() != want {
			t.Errorf("%v, want %v", v, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, p := range []Packet{testProbe(), testReply()} {
		var b [Size]byte
		p.Marshal(&b, testKey(9))
		f.Add(b[:])
	}
	f.Add([]byte("QPB1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		var out [Size]byte
		p.Marshal(&out, testKey(p.Epoch))
		again, err := Parse(out[:])
		if err != nil || again != p || !Verify(out[:], testKey(p.Epoch)) {
			t.Errorf("%+v became %+v, %v", p, again, err)
		}
	})
}

func TestNoAllocations(t *testing.T) {
	if n := testing.AllocsPerRun(1000, roundTrip()); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

// roundTrip is one probe answered and checked.
func roundTrip() func() {
	p, key := testProbe(), testKey(9)
	var b, out [Size]byte
	return func() {
		p.Seq++
		p.Marshal(&b, key)
		q, err := Parse(b[:])
		if err != nil || !Verify(b[:], key) {
			panic("not our own packet")
		}
		r := q.Reply()
		r.Marshal(&out, key)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	b.ReportAllocs()
	f := roundTrip()
	for b.Loop() {
		f()
	}
}
