package wire

import (
	"bytes"
	"errors"
	"testing"
)

type pipe struct{ bytes.Buffer }

func (*pipe) Close() error { return nil }

func TestFrames(t *testing.T) {
	p := &pipe{}
	c := &Conn{ReadWriteCloser: p}
	big := bytes.Repeat([]byte("x"), MaxFrame+10)
	for _, err := range []error{c.SendJSON(Req, Request{Op: "exec"}), c.Send(Stdin, big), c.Send(StdinEOF, nil)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []struct {
		k Kind
		n int
	}{{Req, len(`{"Op":"exec"}`)}, {Stdin, MaxFrame}, {Stdin, 10}, {StdinEOF, 0}} {
		if k, b, err := c.Recv(); k != want.k || len(b) != want.n || err != nil {
			t.Errorf("%c of %d bytes, %v; want %c of %d", k, len(b), err, want.k, want.n)
		}
	}
}

func TestTooLong(t *testing.T) {
	p := &pipe{}
	p.Write([]byte{'o', 0xff, 0, 0, 0})
	if _, _, err := (&Conn{ReadWriteCloser: p}).Recv(); !errors.Is(err, ErrFrame) {
		t.Error(err)
	}
}

func FuzzRecv(f *testing.F) {
	f.Add([]byte{'o', 0, 0, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &pipe{}
		p.Write(b)
		c := &Conn{ReadWriteCloser: p}
		for {
			if _, got, err := c.Recv(); err != nil {
				return
			} else if len(got) > MaxFrame {
				t.Fatal("too long")
			}
		}
	})
}
