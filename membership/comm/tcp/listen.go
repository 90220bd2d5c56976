package tcp

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// listenRetry is how often a missing own address is tried again.
	listenRetry = time.Second
	// Connections that have not yet proved who they are, at one time.
	maxPeerPending      = 8  // from each of the nodes' addresses; a node has one
	maxStrangersPending = 16 // from all others
	// How many may try in a second. To find out who it is costs a millisecond of a
	// processor, with the daemon's priority: none may take it away from the probes.
	peerRate     = 50 // from each of the nodes' addresses; a node tries at most ten times
	peerBurst    = 64
	strangerRate = 10 // from all others, who are only told why not
	// userTimeout is for how long sent data may stay unacknowledged, or a full
	// receiver may take nothing. It is longer than stall_limit (10 s): a daemon
	// that is only stopped keeps its connections as long as it keeps its place.
	userTimeout = 12 * time.Second
	// maxSegment fits with its headers into 1280 bytes, which every IPv6 link carries: a
	// path that loses long packets without a word would hold up the connection and with it
	// the cure for the DLM's, which has the same trouble.
	maxSegment = 1220
)

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3}

func dialTCP(ctx context.Context, local, remote netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive, Control: shortSegments}
	if local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(local)
	}
	return d.DialContext(ctx, "tcp", remote.String())
}

// shortSegments holds before the handshake, so that both ends keep to it; an accepted
// connection has it of its listener.
func shortSegments(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, maxSegment)
	})
}

// tune sets what a Dialer and a ListenConfig do not. Without it a connection
// works and only notices a dead peer later, so errors are not looked at.
func tune(conn net.Conn) {
	t, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
}

func (c *Comm) listenAddrs() []netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Keys(c.listens), netip.AddrPort.Compare)
}

func (c *Comm) setListen(addr netip.AddrPort, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listens[addr] = why
}

// listen accepts on one own address until ctx ends. An address that is not
// there (yet) is tried again every second.
func (c *Comm) listen(ctx context.Context, addr netip.AddrPort, gate *admission, wg *sync.WaitGroup) {
	var nag nag
	for ctx.Err() == nil {
		lc := net.ListenConfig{KeepAliveConfig: keepAlive, Control: shortSegments}
		l, err := lc.Listen(ctx, "tcp", addr.String())
		if err == nil {
			nag.reset()
			c.setListen(addr, "")
			err = c.accept(ctx, l, gate, wg)
		}
		if ctx.Err() != nil {
			break
		}
		err = &OpError{Op: "listen", Addr: addr, Err: listenAdvice(err)}
		c.setListen(addr, err.Error())
		c.log.Log(ctx, nag.level(time.Now()), "cannot listen", "addr", addr, "err", err)
		sleep(ctx, listenRetry)
	}
	c.setListen(addr, "stopped")
}

func listenAdvice(err error) error {
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return errors.New("this node does not have the address (yet): configure the interface, or correct the node's addresses; trying every second")
	case errors.Is(err, unix.EADDRINUSE):
		return errors.New("another program listens there: see \"ss -ltnp\"; trying every second")
	}
	return err
}

func (c *Comm) accept(ctx context.Context, l net.Listener, gate *admission, wg *sync.WaitGroup) error {
	defer l.Close()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		raw, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil { // out of descriptors, or the connection is gone already
			c.log.Debug("accept", "addr", l.Addr(), "err", err)
			sleep(ctx, retryMin)
			continue
		}
		leave, ok := gate.enter(time.Now(), remoteOf(raw).Addr())
		if !ok {
			_ = raw.Close()
			continue
		}
		wg.Go(func() { c.welcome(ctx, raw, leave) })
	}
}

// welcome finds out who connected, and serves it.
func (c *Comm) welcome(ctx context.Context, raw net.Conn, leave func()) {
	tune(raw)
	s, err := c.handshake(ctx, raw, purpose{})
	leave()
	if err == nil && s.hello.spare {
		_ = s.peer.standBy(ctx, s)
		return
	}
	if err == nil {
		_ = s.peer.serve(ctx, s)
		return
	}
	if ctx.Err() != nil {
		return
	}
	op := &OpError{Op: "accept", Addr: remoteOf(raw), Err: err}
	if s != nil && s.peer != nil {
		op.Peer, op.Name = s.peer.node.ID, s.peer.node.Name
		s.peer.failed(op)
	}
	c.log.Debug("connection not accepted", "addr", op.Addr, "err", err)
	c.refused(op.Addr, op)
}

// refused tells of a refusal, not too often.
func (c *Comm) refused(addr netip.AddrPort, err error) {
	var r *RefusedError
	if !errors.As(err, &r) || !c.gate.pass(time.Now(), addr.Addr().String()+" "+r.Error()) {
		return
	}
	c.log.Warn("refused", "addr", addr, "err", err)
	if c.opt.Refused != nil {
		c.opt.Refused(addr, err)
	}
}

// admission bounds the connections that have not proved who they are. Whoever uses
// up what one address may have, on that node perhaps, takes nothing from the others.
type admission struct {
	mu     sync.Mutex
	known  map[netip.Addr]*allowance
	others allowance
}

func newAdmission(known map[netip.Addr]bool) *admission {
	a := &admission{others: allowance{places: maxStrangersPending, rate: strangerRate, burst: maxStrangersPending}}
	a.setKnown(known)
	return a
}

// setKnown replaces the nodes' addresses. Those that stay keep what they have used up.
func (a *admission) setKnown(known map[netip.Addr]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	had := a.known
	a.known = map[netip.Addr]*allowance{}
	for addr := range known {
		of := had[addr]
		if of == nil {
			of = &allowance{places: maxPeerPending, rate: peerRate, burst: peerBurst}
		}
		a.known[addr] = of
	}
}

// enter gives a place, to be left once, or says that there is none.
func (a *admission) enter(now time.Time, from netip.Addr) (leave func(), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	of := a.known[from.WithZone("")]
	if of == nil {
		of = &a.others
	}
	if of.places == 0 || !of.take(now) {
		return nil, false
	}
	of.places--
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		of.places++
	}, true
}

// allowance is what those of one kind may have: so many places at a time, and so
// many attempts a second or a burst of them at once.
type allowance struct {
	places      int // free ones
	rate, burst int
	used        time.Time // the moment up to which what passed has used it up
}

func (a *allowance) take(now time.Time) bool {
	one := time.Second / time.Duration(a.rate)
	if full := now.Add(-time.Duration(a.burst) * one); a.used.Before(full) {
		a.used = full
	}
	if a.used.Add(one).After(now) {
		return false
	}
	a.used = a.used.Add(one)
	return true
}

// refusals passes each text once in a while. It remembers a bounded number.
type refusals struct {
	every time.Duration
	mu    sync.Mutex
	told  map[string]time.Time
}

const maxRefusals = 256

func (r *refusals) pass(now time.Time, text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.told[text]; ok && now.Sub(t) < r.every {
		return false
	}
	if len(r.told) >= maxRefusals {
		maps.DeleteFunc(r.told, func(_ string, t time.Time) bool { return now.Sub(t) >= r.every })
	}
	if len(r.told) >= maxRefusals {
		return false
	}
	r.told[text] = now
	return true
}

// nag decides how loud a repeated failure is: a minute at debug, then one
// error, then one an hour.
type nag struct{ since, next time.Time }

func (n *nag) level(now time.Time) slog.Level {
	if n.since.IsZero() {
		n.since, n.next = now, now.Add(time.Minute)
	}
	if now.Before(n.next) {
		return slog.LevelDebug
	}
	n.next = now.Add(time.Hour)
	return slog.LevelError
}

func (n *nag) reset() { *n = nag{} }

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
