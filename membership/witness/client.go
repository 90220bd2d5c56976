package witness

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/secret"
)

// Cluster is what a node tells a witness of its cluster.
type Cluster struct {
	Name      string
	ID        string
	Self      membership.NodeID
	Nodes     []membership.NodeID
	Interval  time.Duration
	DeadAfter time.Duration
	Secret    func() secret.Secret // whose public part is told; asked for each connection
}

func (c Cluster) hello() (Hello, tls.Certificate, error) {
	s := c.Secret()
	leaf, err := s.Leaf(NodeURI(c.Name, c.Self))
	if err != nil {
		return Hello{}, leaf, err
	}
	auth, err := s.Authorities()
	return Hello{Protocol: Protocol, Cluster: c.Name, ClusterID: c.ID, From: c.Self, Authorities: auth, Nodes: c.Nodes,
		Interval: c.Interval, DeadAfter: c.DeadAfter}, leaf, err
}

// Enrol introduces a cluster to the witness that made a token, and returns the
// witness's name. The token is used up then, for other clusters.
func Enrol(ctx context.Context, t Token, c Cluster) (name string, err error) {
	h, leaf, err := c.hello()
	if err != nil {
		return "", err
	}
	h.Secret = t.secret[:]
	conn, ready, err := dial(ctx, t.Addr, t.Fingerprint, h, leaf)
	if err != nil {
		return "", fmt.Errorf("witness at %s: %w", t.Addr, err)
	}
	conn.Close(ErrStopped)
	return ready.Name, nil
}

// dial connects to a witness, and checks that it is the one.
func dial(ctx context.Context, addr string, fingerprint [sha256.Size]byte, h Hello, leaf tls.Certificate) (*Conn, Ready, error) {
	ctx, cancel := context.WithTimeout(ctx, Handshake)
	defer cancel()
	lc := ListenConfig()
	d := net.Dialer{KeepAliveConfig: keepAlive, Control: lc.Control}
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, Ready{}, err
	}
	tune(raw)
	_ = raw.SetDeadline(time.Now().Add(Handshake))
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	t := tls.Client(raw, &tls.Config{Certificates: []tls.Certificate{leaf}, MinVersion: tls.VersionTLS13, NextProtos: []string{proto}, Time: secret.CheckTime,
		InsecureSkipVerify: true, // pinned checks the certificate itself: there is no name and no authority
		VerifyConnection:   func(s tls.ConnectionState) error { return pinned(s, fingerprint) }})
	c := newConn(raw, t)
	ready, err := c.introduce(ctx, h)
	if !stop() || err != nil {
		_ = raw.Close()
		return nil, ready, errors.Join(err, ctx.Err())
	}
	_ = raw.SetDeadline(time.Time{})
	return c, ready, nil
}

func pinned(s tls.ConnectionState, want [sha256.Size]byte) error {
	if len(s.PeerCertificates) == 0 {
		return ErrCertificate
	}
	got := sha256.Sum256(s.PeerCertificates[0].Raw)
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return ErrCertificate
	}
	return nil
}

func (c *Conn) introduce(ctx context.Context, h Hello) (Ready, error) {
	if err := c.tls.HandshakeContext(ctx); err != nil {
		return Ready{}, err
	}
	if err := c.say(frameHello, h); err != nil {
		return Ready{}, err
	}
	kind, body, err := readFrame(c.in, maxHello)
	if err != nil {
		return Ready{}, err
	}
	return parseAnswer(kind, body)
}

// Target is the witness to keep a connection to.
type Target struct {
	ID          membership.NodeID
	Addr        string
	Fingerprint string // lower-case hex
	ClusterID   string
}

// Client keeps a node's connection to the agreed witness, if there is one.
type Client struct {
	cluster Cluster
	handler membership.CommHandler
	log     *slog.Logger
	changed chan struct{}

	mu     sync.Mutex
	target *Target
	conn   *Conn // that Connected was told of
}

// NewClient makes a client without a witness. The cluster's id comes with the target.
func NewClient(c Cluster, h membership.CommHandler, log *slog.Logger) *Client {
	return &Client{cluster: c, handler: h, log: log, changed: make(chan struct{}, 1)}
}

// Set replaces the witness; nil: there is none. It does not block.
func (c *Client) Set(t *Target) {
	c.mu.Lock()
	c.target = t
	conn := c.conn
	c.mu.Unlock()
	if conn != nil {
		conn.Close(errors.New("the witness was changed"))
	}
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Renew connects anew, with the leaf and the authorities of now: they have changed.
func (c *Client) Renew() {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil {
		conn.Close(errors.New("it is to be told of new keys or nodes"))
	}
}

// SetCluster replaces what the witness is told of the cluster, and connects anew.
func (c *Client) SetCluster(cl Cluster) {
	c.mu.Lock()
	c.cluster = cl
	c.mu.Unlock()
	c.Renew()
}

// Send queues a copy of data for the witness of that id. It never blocks.
func (c *Client) Send(to membership.NodeID, data []byte) bool {
	c.mu.Lock()
	conn, t := c.conn, c.target
	c.mu.Unlock()
	return conn != nil && t != nil && t.ID == to && conn.Send(data)
}

const (
	retryMin = 100 * time.Millisecond
	retryMax = time.Second
)

// Run keeps the connection until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	wait := retryMin
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		c.mu.Lock()
		t, cl := c.target, c.cluster
		c.mu.Unlock()
		var retry <-chan time.Time
		if t != nil {
			began := time.Now()
			cl.ID = t.ClusterID
			c.keep(ctx, *t, cl)
			if wait = min(2*wait, retryMax); time.Since(began) > retryMax {
				wait = retryMin
			}
			timer.Reset(wait)
			retry = timer.C
		}
		select {
		case <-ctx.Done():
		case <-c.changed:
			wait = retryMin
		case <-retry:
		}
	}
	return nil
}

// keep has one connection, or says why there is none.
func (c *Client) keep(ctx context.Context, t Target, cl Cluster) {
	conn, err := c.connect(ctx, t, cl)
	if err != nil {
		if ctx.Err() == nil {
			c.handler.Disconnected(t.ID, err)
			c.log.Debug("witness", "addr", t.Addr, "err", err)
		}
		return
	}
	c.mu.Lock()
	stale := c.target == nil || *c.target != t
	if !stale {
		c.conn = conn
	}
	c.mu.Unlock()
	if stale {
		conn.Close(ErrStopped)
		return
	}
	c.handler.Connected(t.ID)
	err = conn.Run(ctx, func(b []byte) { c.handler.Message(t.ID, b) })
	c.mu.Lock()
	c.conn = nil
	c.mu.Unlock()
	c.handler.Disconnected(t.ID, err)
	c.log.Info("witness disconnected", "addr", t.Addr, "err", err)
}

func (c *Client) connect(ctx context.Context, t Target, cl Cluster) (*Conn, error) {
	b, err := hex.DecodeString(t.Fingerprint)
	if err != nil || len(b) != sha256.Size {
		return nil, fmt.Errorf("the agreed fingerprint of the witness is none: %w", ErrGarbage)
	}
	h, leaf, err := cl.hello()
	if err != nil {
		return nil, err
	}
	h.To = t.ID
	conn, _, err := dial(ctx, t.Addr, [sha256.Size]byte(b), h, leaf)
	return conn, err
}
