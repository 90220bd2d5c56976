// Package wire is what the host and labnode say to each other: one TCP
// connection carries one request. Everything is a frame: a kind, a length and
// that many bytes.
//
// The host sends a Req frame, then Stdin frames and one StdinEOF, and Signal or
// Window frames at any time. The node answers with Started, then Stdout and
// Stderr frames, and ends with one Exit frame. A host that closes the connection
// before Exit wants the command killed.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Kind says what a frame carries.
type Kind byte

// The kinds of frames.
const (
	Req      Kind = 'q' // JSON Request
	Stdin    Kind = 'i' // bytes
	StdinEOF Kind = 'e' // empty
	Signal   Kind = 'g' // JSON int, a signal number for the process group
	Window   Kind = 'w' // JSON Size
	Started  Kind = 's' // JSON int, the pid in the node
	Stdout   Kind = 'o' // bytes
	Stderr   Kind = 'r' // bytes
	Exited   Kind = 'x' // JSON Exit
)

// MaxFrame bounds the payload of one frame.
const MaxFrame = 1 << 20

// Rebooted is the exit status on the host of a node that has rebooted: to do so
// User-Mode Linux executes what is named Reboot and its kernel, which is labnode.
const (
	Reboot   = "rebooted-"
	Rebooted = 82
)

// Ports on the management network.
const (
	NodePort  = 7077 // labnode listens here, in each node
	HelloPort = 7078 // the host listens here for nodes that came up
)

// ErrFrame is a frame that breaks the format.
var ErrFrame = errors.New("malformed frame")

// Request asks a node for one thing.
type Request struct {
	Op     string   // "exec", "call", "put", "read" or "unix"
	Cmd    []string `json:",omitempty"` // exec: program and arguments; call: what labnode itself does
	Env    []string `json:",omitempty"` // exec: added to the node's environment
	Detach bool     `json:",omitempty"` // exec: outlives the connection; output goes to Out
	Out    string   `json:",omitempty"` // exec, detached: file for output, appended to; unix: what is said
	TTY    *Size    `json:",omitempty"` // exec: run on a terminal of this size
	Path   string   `json:",omitempty"` // put, read: the file; its content follows as Stdin, Stdout; unix: the socket
	Mode   uint32   `json:",omitempty"` // put: permissions
}

// Size is a terminal's size in characters.
type Size struct{ Rows, Cols uint16 }

// Exit is how a request ended.
type Exit struct {
	Code int    // exit status, 128+signal when killed
	Err  string `json:",omitempty"` // the request could not be carried out at all
}

// Hello is the first thing a node says when it is up.
type Hello struct {
	Node   int
	Nonce  string // as given on the kernel command line: tells boots apart
	Kernel string // uname -r
	BootID string // /proc/sys/kernel/random/boot_id
}

// Conn frames a stream. Writes may come from several goroutines, reads from one.
type Conn struct {
	io.ReadWriteCloser
	mu sync.Mutex
}

// Send sends one frame of raw bytes, split when larger than MaxFrame.
func (c *Conn) Send(k Kind, p []byte) error {
	for {
		n := min(len(p), MaxFrame)
		if err := c.sendOne(k, p[:n]); err != nil {
			return err
		}
		if p = p[n:]; len(p) == 0 {
			return nil
		}
	}
}

func (c *Conn) sendOne(k Kind, p []byte) error {
	b := make([]byte, 5, 5+len(p))
	b[0] = byte(k)
	binary.BigEndian.PutUint32(b[1:], uint32(len(p)))
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.ReadWriteCloser.Write(append(b, p...))
	return err
}

// SendJSON sends v as one frame.
func (c *Conn) SendJSON(k Kind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.Send(k, b)
}

// Recv reads one frame.
func (c *Conn) Recv() (Kind, []byte, error) {
	var h [5]byte
	if _, err := io.ReadFull(c.ReadWriteCloser, h[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(h[1:])
	if n > MaxFrame {
		return 0, nil, fmt.Errorf("%w: %d bytes", ErrFrame, n)
	}
	p := make([]byte, n)
	_, err := io.ReadFull(c.ReadWriteCloser, p)
	return Kind(h[0]), p, err
}

// Writer makes every Write one frame of kind k.
func (c *Conn) Writer(k Kind) io.Writer { return frameWriter{c, k} }

type frameWriter struct {
	c *Conn
	k Kind
}

func (w frameWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := w.c.Send(w.k, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
