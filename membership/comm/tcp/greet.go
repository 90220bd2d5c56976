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
