package tcp

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/quorate/quorate/membership"
)

// Greet finds out whether a daemon at the other end of a fresh connection would talk to
// this node, by the secret, the cluster's name and the ids alone, and closes it: no
// connection of the daemons comes of it, and none is replaced. A RefusedError says why not.
func Greet(ctx context.Context, opt Options, raw net.Conn, peer membership.NodeID) error {
	defer func() { _ = raw.Close() }()
	opt.Handler = silent{}
	c, err := New(opt)
	if err != nil {
		return err
	}
	return c.greet(ctx, raw, peer)
}

func (c *Comm) greet(ctx context.Context, raw net.Conn, peer membership.NodeID) error {
	_ = raw.SetDeadline(time.Now().Add(c.opt.Handshake))
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })()
	conn := tls.Client(raw, c.believed.Load().tls)
	s := &session{conn: conn, raw: raw, remote: remoteOf(raw), in: bufio.NewReaderSize(conn, readBuffer)}
	if err := conn.HandshakeContext(ctx); err != nil {
		return tlsReason(err)
	}
	if err := s.expect(frameHello); err != nil {
		return tlsReason(err)
	}
	if _, err := c.identify(conn.ConnectionState(), peer); err != nil {
		return err
	}
	return c.judge(s.hello, peer)
}

type silent struct{}

func (silent) Connected(membership.NodeID)           {}
func (silent) Message(membership.NodeID, []byte)     {}
func (silent) Disconnected(membership.NodeID, error) {}

// A node that the others dial, and that has not been for askAfter since its start, asks
// them why, and again while it is not.
const (
	askAfter = 5 * time.Second
	askEvery = 20 * time.Second
)

// askLoop finds out why a peer that is to dial this node does not: one that has another
// secret, or whose configuration has this node no more, says so when it is asked, and
// else nobody would ever hear of it.
func (p *peer) askLoop(ctx context.Context) {
	for wait := p.c.askAfter; ; wait = p.c.askEvery {
		sleep(ctx, wait)
		if ctx.Err() != nil {
			return
		}
		if p.isUp() {
			continue
		}
		raw, _, err := p.connect(ctx)
		if err != nil {
			continue
		}
		addr := remoteOf(raw)
		err = p.c.greet(ctx, raw, p.node.ID)
		_ = raw.Close()
		if err != nil && ctx.Err() == nil {
			p.c.refused(addr, &OpError{Op: "ask", Peer: p.node.ID, Name: p.node.Name, Addr: addr, Err: err})
		}
	}
}

func (p *peer) isUp() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current != nil
}
