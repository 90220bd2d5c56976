package tcp

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/membership"
)

const readBuffer = 64 << 10

// session is one authenticated connection.
type session struct {
	peer   *peer
	conn   net.Conn // TLS
	raw    net.Conn // below it: closing this one never waits
	in     *bufio.Reader
	remote netip.AddrPort
	link   int   // of the peer's addresses
	hello  hello // the peer's
	since  time.Time
	parked chan struct{} // closed when nobody reads it as the dialler's spare any more
	taken  atomic.Bool   // out of its place as a spare

	wake chan struct{} // of the writer
	done chan struct{} // closed by close

	mu    sync.Mutex
	open  bool  // Send may queue
	queue queue // frames not yet written
	cause error // why it ended; set once
}

// purpose is what a connection is dialled for. The zero value is the listening end's.
type purpose struct {
	want  membership.NodeID // the node that was dialled
	spare bool
}

// handshake does everything up to ready on a fresh connection, within the deadline.
func (c *Comm) handshake(ctx context.Context, raw net.Conn, goal purpose) (*session, error) {
	_ = raw.SetDeadline(time.Now().Add(c.opt.Handshake))
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })()
	conf := c.believed.Load().tls
	conn := tls.Server(raw, conf)
	if goal.want != 0 {
		conn = tls.Client(raw, conf)
	}
	s := &session{conn: conn, raw: raw, remote: remoteOf(raw), in: bufio.NewReaderSize(conn, readBuffer),
		wake: make(chan struct{}, 1), done: make(chan struct{})}
	err := conn.HandshakeContext(ctx)
	if err == nil && goal.want != 0 {
		err = c.introduce(s, goal)
	} else if err == nil {
		err = c.admit(s)
	}
	if err != nil {
		_ = raw.Close()
		if ctx.Err() != nil {
			return nil, ErrStopped
		}
		return s, tlsReason(err)
	}
	_ = raw.SetDeadline(time.Time{})
	return s, nil
}

// admit is the listener's side.
func (c *Comm) admit(s *session) error {
	id, err := c.identify(s.conn.(*tls.Conn).ConnectionState(), 0)
	if err != nil {
		return s.refuse(err)
	}
	p, ok := c.peer(id)
	if !ok && c.version.Load() != 0 {
		return s.refuse(c.removed(nodeURI(c.opt.Cluster, id).String()))
	}
	if !ok {
		return s.refuse(refuse(ErrNode, "node %d is not configured at node %d any more", id, c.opt.Self))
	}
	s.peer = p
	if s.link, err = s.peer.at(s.remote.Addr()); err != nil {
		return s.refuse(err)
	}
	if err := s.write(frameHello, c.hello(purpose{want: id}).marshal()); err != nil {
		return err
	}
	if err := s.expect(frameHello); err != nil {
		return err
	}
	if err := c.judge(s.hello, id); err != nil {
		return s.refuse(err)
	}
	return s.write(frameReady, nil)
}

// introduce is the dialler's side.
func (c *Comm) introduce(s *session, goal purpose) error {
	want := goal.want
	p, ok := c.peer(want)
	if !ok {
		return ErrUnconfigured
	}
	s.peer = p
	if err := s.expect(frameHello); err != nil {
		return err
	}
	_, err := c.identify(s.conn.(*tls.Conn).ConnectionState(), want)
	if err == nil {
		err = c.judge(s.hello, want)
	}
	if err != nil {
		return s.refuse(err)
	}
	if goal.spare && s.hello.feature < spareFeature {
		return errNoSpares
	}
	if err := s.write(frameHello, c.hello(goal).marshal()); err != nil {
		return err
	}
	return s.expect(frameReady)
}

func (c *Comm) hello(goal purpose) hello {
	return hello{protocol: c.protocol, feature: c.feature, from: c.opt.Self, to: goal.want,
		instance: c.opt.Instance, config: c.opt.ConfigHash, cluster: c.opt.Cluster, spare: goal.spare}
}

// judge says whether to talk to a peer that its certificate names id.
func (c *Comm) judge(h hello, id membership.NodeID) error {
	switch {
	case h.protocol != c.protocol:
		return refuse(ErrProtocol, "protocol %d met protocol %d of node %d", h.protocol, c.protocol, c.opt.Self)
	case h.cluster != c.opt.Cluster:
		return refuse(ErrCluster, "cluster %q met cluster %q", printable(h.cluster), c.opt.Cluster)
	case h.from != id:
		return refuse(ErrNode, "its certificate says node %d and its greeting node %d", id, h.from)
	case h.to != c.opt.Self:
		return refuse(ErrNode, "it means node %d, this is node %d", h.to, c.opt.Self)
	}
	return nil
}

func (s *session) write(kind byte, body []byte) error {
	_, err := s.conn.Write(appendFrame(nil, kind, body))
	return err
}

// refuse tells the other end why and returns the reason.
func (s *session) refuse(err error) error {
	var r *RefusedError
	if errors.As(err, &r) {
		_ = s.write(frameRefuse, marshalRefusal(r))
	}
	return err
}

// expect reads the next frame of the handshake, which is of that kind or a refusal.
func (s *session) expect(kind byte) error {
	got, body, err := readFrame(s.in, maxHandshake)
	switch {
	case err != nil:
		return err
	case got == frameRefuse:
		return parseRefusal(body)
	case got != kind:
		return refuse(ErrGarbage, "a frame of type %d instead of %d", got, kind)
	case kind == frameHello:
		s.hello, err = parseHello(body)
	}
	return err
}

// push queues a message; false when it does not fit or the session is not open.
func (s *session) push(data []byte) bool {
	opt := &s.peer.c.opt
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open || s.queue.count >= opt.Queue || s.queue.size+headerSize+len(data) > opt.QueueSize {
		return false
	}
	s.queue.add(data)
	if s.queue.count == 1 {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// writeLoop writes what is queued, in chunks of many messages, until the
// session ends.
func (s *session) writeLoop() {
	var batch queue
	for {
		select {
		case <-s.wake:
		case <-s.done:
			return
		}
		s.mu.Lock()
		batch, s.queue = s.queue, batch
		s.mu.Unlock()
		for _, chunk := range batch.chunks {
			if _, err := s.conn.Write(chunk); err != nil {
				s.close(&OpError{Op: "write", Peer: s.peer.node.ID, Name: s.peer.node.Name, Addr: s.remote, Err: err})
				return
			}
		}
		batch.reset()
	}
}

// readLoop hands messages to the handler until the session ends.
func (s *session) readLoop() error {
	for {
		kind, body, err := readFrame(s.in, membership.MaxMessage)
		if err != nil {
			return err
		}
		if kind != frameMessage {
			return fmt.Errorf("%w: a frame of type %d", ErrGarbage, kind)
		}
		if s.ended() {
			return nil
		}
		s.peer.c.opt.Handler.Message(s.peer.node.ID, body)
	}
}

// setOpen lets Send queue, or not any more.
func (s *session) setOpen(open bool) {
	s.mu.Lock()
	s.open = open && s.cause == nil
	s.mu.Unlock()
}

func (s *session) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// close ends the session; the first cause is kept.
func (s *session) close(cause error) {
	s.mu.Lock()
	first := s.cause == nil
	if first {
		s.cause = cause
		s.open = false
	}
	s.mu.Unlock()
	if first {
		close(s.done)
		_ = s.raw.Close()
	}
}

func (s *session) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

func (s *session) queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue.count
}

func remoteOf(c net.Conn) netip.AddrPort {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
