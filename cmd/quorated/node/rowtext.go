package node

import (
	"bytes"
	"strconv"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/liveness"
)

// rowText reads a row in exactly the form that encodeRow gives it, which is what peers
// of the same version send. When a machine dies each of the others sends each other one
// a row at the same moment, and reading them was the most of what they did until the view:
// encoding/json takes eight times as long.
type rowText struct {
	rest []byte
	bad  bool // it is of another form
}

// readRow returns false for a row of any other form: encoding/json has to read it.
func readRow(b []byte) (r liveness.Row, ok bool) {
	t := rowText{rest: b}
	r.From = membership.NodeID(t.number(`{"from":`, 32))
	r.Round = t.number(`,"round":`, 64)
	r.View = t.number(`,"view":`, 64)
	t.word(`,"ages":[`)
	r.Ages = make([]liveness.Age, 0, bytes.Count(t.rest, []byte("{")))
	for !t.bad && !bytes.HasPrefix(t.rest, []byte("]")) {
		if len(r.Ages) > 0 {
			t.word(",")
		}
		var a liveness.Age
		a.Peer = membership.NodeID(t.number(`{"peer":`, 32))
		a.Age = t.duration(`,"age":`)
		a.Path = t.duration(`,"path":`)
		a.DaemonAge = t.duration(`,"daemon_age":`)
		a.Instance = t.number(`,"instance":`, 64)
		t.word("}")
		r.Ages = append(r.Ages, a)
	}
	r.LastTerm = t.number(`],"last_term":`, 64)
	r.LastIndex = t.number(`,"last_index":`, 64)
	r.Instance = t.number(`,"instance":`, 64)
	t.word("}")
	return r, !t.bad && len(t.rest) == 0
}

func (t *rowText) word(w string) {
	rest, ok := bytes.CutPrefix(t.rest, []byte(w))
	t.rest, t.bad = rest, t.bad || !ok
}

// digits takes a number as encoding/json writes it.
func (t *rowText) digits() string {
	n := 0
	for n < len(t.rest) && (t.rest[n] == '-' || '0' <= t.rest[n] && t.rest[n] <= '9') {
		n++
	}
	d := string(t.rest[:n])
	t.rest = t.rest[n:]
	t.bad = t.bad || len(d) > 1 && d[0] == '0' || len(d) > 1 && d[:2] == "-0" // JSON has no such numbers
	return d
}

func (t *rowText) number(name string, bits int) uint64 {
	t.word(name)
	v, err := strconv.ParseUint(t.digits(), 10, bits)
	t.bad = t.bad || err != nil
	return v
}

func (t *rowText) duration(name string) time.Duration {
	t.word(name)
	v, err := strconv.ParseInt(t.digits(), 10, 64)
	t.bad = t.bad || err != nil
	return time.Duration(v)
}
