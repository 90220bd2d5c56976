package witness

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
)

const (
	// Handshake bounds everything up to ready.
	Handshake = 5 * time.Second
	// silence is for how long sent data may stay unacknowledged.
	silence = 12 * time.Second

	maxQueue     = 32 << 20 // bytes that wait to be written
	maxQueued    = 4096     // messages
	proto        = "quorate-witness"
	writeTimeout = silence
)

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3}

// ErrReplaced: the same node connected anew. ErrStopped: this end is stopping.
var (
	ErrReplaced = errors.New("replaced by a newer connection of the same node")
	ErrStopped  = errors.New("this end is stopping")
)

// Conn is a connection that is ready.
type Conn struct {
	raw net.Conn
	tls *tls.Conn
	in  *bufio.Reader

	wake chan struct{}
	done chan struct{}

	mu    sync.Mutex
	queue [][]byte
	size  int
	cause error
}

func newConn(raw net.Conn, t *tls.Conn) *Conn {
	return &Conn{raw: raw, tls: t, in: bufio.NewReader(t), wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// tune lets a connection to a dead peer end. Without it all works, only later.
func tune(conn net.Conn) {
	t, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := t.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
		})
	}
}

// ListenConfig is how a witness listens.
func ListenConfig() net.ListenConfig {
	return net.ListenConfig{KeepAliveConfig: keepAlive, Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1220) // as in membership/comm/tcp
		})
	}}
}

// Accept does the witness's part up to the hello. decide says whether to talk to the
// node; a Refusal of it is told.
func Accept(ctx context.Context, raw net.Conn, id Identity, name string, decide func(Hello, *tls.ConnectionState) error) (*Conn, Hello, error) {
	tune(raw)
	_ = raw.SetDeadline(time.Now().Add(Handshake))
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	t := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{id.Certificate}, MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert,
		SessionTicketsDisabled: true, NextProtos: []string{proto}})
	c := newConn(raw, t)
	h, err := c.accept(ctx, name, decide)
	if err != nil {
		_ = raw.Close()
		return nil, h, err
	}
	_ = raw.SetDeadline(time.Time{})
	return c, h, nil
}

func (c *Conn) accept(ctx context.Context, name string, decide func(Hello, *tls.ConnectionState) error) (Hello, error) {
	if err := c.tls.HandshakeContext(ctx); err != nil {
		return Hello{}, err
	}
	kind, body, err := readFrame(c.in, maxHello)
	if err == nil && kind != frameHello {
		err = fmt.Errorf("%w: a frame of type %d", ErrGarbage, kind)
	}
	if err != nil {
		return Hello{}, err
	}
	h, err := ParseHello(body)
	if err == nil {
		s := c.tls.ConnectionState()
		err = decide(h, &s)
	}
	if no := (Refusal{}); errors.As(err, &no) {
		_ = c.say(frameRefuse, no)
	}
	if err != nil {
		return h, err
	}
	return h, c.say(frameReady, Ready{Protocol: Protocol, Name: name})
}

func (c *Conn) say(kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = c.tls.Write(appendFrame(nil, kind, b))
	return err
}

// Send queues a message; false when it does not fit, or the connection has ended.
func (c *Conn) Send(data []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil || len(data) > membership.MaxMessage || len(c.queue) >= maxQueued || c.size+headerSize+len(data) > maxQueue {
		return false
	}
	c.queue = append(c.queue, appendFrame(nil, frameMessage, data))
	c.size += headerSize + len(data)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return true
}

// Run carries messages until the connection ends, and says why it did.
func (c *Conn) Run(ctx context.Context, message func([]byte)) error {
	defer context.AfterFunc(ctx, func() { c.Close(ErrStopped) })()
	var wg sync.WaitGroup
	wg.Go(c.writeLoop)
	for {
		kind, body, err := readFrame(c.in, membership.MaxMessage)
		if err == nil && kind != frameMessage {
			err = fmt.Errorf("%w: a frame of type %d", ErrGarbage, kind)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("ended by the other end")
			}
			c.Close(err)
			break
		}
		message(body)
	}
	wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

func (c *Conn) writeLoop() {
	for {
		select {
		case <-c.wake:
		case <-c.done:
			return
		}
		c.mu.Lock()
		frames := c.queue
		c.queue, c.size = nil, 0
		c.mu.Unlock()
		for _, f := range frames {
			_ = c.raw.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := c.tls.Write(f); err != nil {
				c.Close(err)
				return
			}
		}
	}
}

// Close ends the connection; the first cause is kept.
func (c *Conn) Close(cause error) {
	c.mu.Lock()
	first := c.cause == nil
	if first {
		c.cause = cause
	}
	c.mu.Unlock()
	if first {
		close(c.done)
		_ = c.raw.Close()
	}
}
