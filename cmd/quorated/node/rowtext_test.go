package node

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/liveness"
)

func someRow(ages int) liveness.Row {
	r := liveness.Row{From: 1, Round: 7, View: 3, LastTerm: 2, LastIndex: 99, Instance: math.MaxUint64, Ages: []liveness.Age{}}
	for i := range ages {
		r.Ages = append(r.Ages, liveness.Age{Peer: membership.NodeID(i + 2), Age: -1, Path: math.MaxInt64, DaemonAge: math.MinInt64, Instance: uint64(i) << 60})
	}
	return r
}

// TestReadRow: what encodeRow writes is read without encoding/json, to the same row.
func TestReadRow(t *testing.T) {
	for _, n := range []int{0, 1, 2, 31} {
		want := someRow(n)
		if got, ok := readRow(encodeRow(want)); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%d: %v %+v", n, ok, got)
		}
	}
}

// TestReadRowLeaves: any other form is left to encoding/json, which takes it or does not.
func TestReadRowLeaves(t *testing.T) {
	text := string(encodeRow(someRow(2)))
	for _, c := range [][2]string{{`"from":1`, `"from": 1`}, {`"from":1`, `"from":01`}, {`"from":1`, `"from":-1`}, {`"from":1`, `"from":4294967296`}, {`"from":1`, `"from":`},
		{`"age":-1`, `"age":-01`}, {`"age":-1`, `"age":-`}, {`"age":-1`, `"age":9223372036854775808`}, {`},{`, `}{`}, {`},{`, `},,{`}, {`]`, `,]`}, {`"ages":[`, `"ages":[,`},
		{`"ages"`, `"more":1,"ages"`}, {`"last_term"`, `"last"`}, {`}`, `} `}} {
		changed := strings.Replace(text, c[0], c[1], 1)
		if changed == text {
			t.Fatalf("%q is not in %s", c[0], text)
		}
		if r, ok := readRow([]byte(changed)); ok {
			t.Errorf("%s: %+v", changed, r)
		}
	}
	for n := range text {
		if _, ok := readRow([]byte(text[:n])); ok {
			t.Errorf("%q is taken", text[:n])
		}
	}
	if _, ok := readRow([]byte(text + " ")); ok {
		t.Error("more than a row is taken")
	}
}

// FuzzReadRow: what is taken is what encoding/json makes of it.
func FuzzReadRow(f *testing.F) {
	f.Add(encodeRow(someRow(2)))
	f.Add(encodeRow(someRow(0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := readRow(b)
		if !ok {
			return
		}
		var want liveness.Row
		if err := json.Unmarshal(b, &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %+v %v", b, got, want, err)
		}
	})
}

func BenchmarkDecodeRow(b *testing.B) {
	text := encodeRow(someRow(15))
	for b.Loop() {
		if _, err := DecodeRow(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeRowJSON(b *testing.B) {
	text := encodeRow(someRow(15))
	for b.Loop() {
		var r liveness.Row
		if err := json.Unmarshal(text, &r); err != nil {
			b.Fatal(err)
		}
	}
}
