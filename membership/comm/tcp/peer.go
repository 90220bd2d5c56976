package tcp

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/membership"
)

const (
	retryMin = 100 * time.Millisecond
	retryMax = time.Second
	// stagger is how much later each next address of a peer is tried.
	stagger = 150 * time.Millisecond
	// connectTimeout bounds one round over all addresses of a peer.
	connectTimeout = 2 * time.Second
	// patience is what an attempt is given before Kick may cut it short.
	patience = 300 * time.Millisecond
)

// peer is one other configured node.
type peer struct {
	c    *Comm
	node membership.Node
	kick chan struct{}
	turn chan struct{}   // held while the handler is told of one session
	gone context.Context // ends when the configuration has it no more
	quit context.CancelFunc

	first int // address to begin with; the dial loop's own
	nag   nag // the dial loop's own

	changed chan struct{} // something that the choice of a spare depends on

	mu      sync.Mutex
	current *session // the newest one
	up      bool     // Connected was or is being told of current
	spare   *session // stands by, over another link
	avoided []int    // links that carry nothing, or not all
	dropped uint64
	err     error
	errAt   time.Time
}

func newPeer(c *Comm, n membership.Node) *peer {
	gone, quit := context.WithCancel(context.Background())
	return &peer{c: c, node: n, kick: make(chan struct{}, 1), turn: make(chan struct{}, 1), changed: make(chan struct{}, 1), gone: gone, quit: quit}
}

// at says which link of the peer an address is. A connection from one that is none is
// refused: another machine was given its id, and would take the place of its connection.
func (p *peer) at(from netip.Addr) (link int, err error) {
	from = from.WithZone("")
	for i, a := range p.node.Addrs {
		if a.Unmap().WithZone("") == from {
			return i, nil
		}
	}
	return 0, refuse(ErrNode, "it says that it is node %d and comes from %s; node %d configures %v for that node", p.node.ID, from, p.c.opt.Self, p.node.Addrs)
}

// serve makes s the peer's session, in place of any other, tells the handler of
// it and returns when it has ended and all has been told.
func (p *peer) serve(ctx context.Context, s *session) error {
	p.mu.Lock()
	old := p.current
	p.current, p.up = s, false
	p.mu.Unlock()
	if old != nil {
		old.close(ErrReplaced)
	}
	defer context.AfterFunc(ctx, func() { s.close(p.why()) })()

	p.turn <- struct{}{} // the handler has been told the end of the old one
	defer func() { <-p.turn }()
	s.since = time.Now()
	s.setOpen(true)
	if p.gone.Err() != nil {
		s.close(ErrUnconfigured)
	}
	if p.begin(s) {
		p.exchange(s)
	}
	p.end(s)
	return s.reason()
}

// why everything with the peer ends: it is configured no more, or Run ends.
func (p *peer) why() error {
	if p.gone.Err() != nil {
		return ErrUnconfigured
	}
	return ErrStopped
}

// begin says whether s is still the one to tell of.
func (p *peer) begin(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != s || s.ended() {
		return false
	}
	p.up = true
	p.notice()
	return true
}

// exchange tells the handler of a whole session.
func (p *peer) exchange(s *session) {
	p.c.log.Info("connected", "peer", p.node.ID, "addr", s.remote, "instance", s.hello.instance)
	p.c.opt.Handler.Connected(p.node.ID)
	var wg sync.WaitGroup
	wg.Go(s.writeLoop)
	if err := s.readLoop(); err != nil {
		s.close(&OpError{Op: "read", Peer: p.node.ID, Name: p.node.Name, Addr: s.remote, Err: err})
	}
	wg.Wait()
	p.end(s)
	p.c.log.Info("disconnected", "peer", p.node.ID, "addr", s.remote, "err", s.reason())
	p.c.opt.Handler.Disconnected(p.node.ID, s.reason())
}

// end forgets s when it is still the newest.
func (p *peer) end(s *session) {
	s.setOpen(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == s {
		p.current, p.up = nil, false
		p.err, p.errAt = s.reason(), time.Now()
	}
}

func (p *peer) send(data []byte) bool {
	p.mu.Lock()
	s := p.current
	p.mu.Unlock()
	if len(data) <= membership.MaxMessage && s != nil && s.push(data) {
		return true
	}
	p.mu.Lock()
	p.dropped++
	p.mu.Unlock()
	return false
}

// drop ends the connection, and its spare, which may be no better.
func (p *peer) drop(reason error) {
	p.mu.Lock()
	s, spare := p.current, p.spare
	p.mu.Unlock()
	for _, s := range []*session{spare, s} {
		if s != nil {
			s.close(reason)
		}
	}
}

func (p *peer) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err, p.errAt = err, time.Now()
}

// dialLoop keeps a connection until ctx ends.
func (p *peer) dialLoop(ctx context.Context) {
	wait := retryMin
	for ctx.Err() == nil {
		began := time.Now()
		err := p.dialOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil && time.Since(began) > retryMax {
			wait = retryMin
		}
		if errors.Is(err, ErrMoved) {
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-p.kick:
			wait = retryMin
		}
		timer.Stop()
		wait = min(2*wait, retryMax)
	}
}

// dialOnce connects and serves; nil when there was a session, or ErrMoved: another one is
// wanted at once.
func (p *peer) dialOnce(ctx context.Context) error {
	if s := p.takeSpare(ctx); s != nil {
		return p.serveDialed(ctx, s)
	}
	raw, i, err := p.connect(ctx)
	if err != nil {
		p.complain(&OpError{Op: "dial", Peer: p.node.ID, Name: p.node.Name, Err: err})
		return err
	}
	s, err := p.c.handshake(ctx, raw, purpose{want: p.node.ID})
	if err != nil {
		p.first = (i + 1) % len(p.node.Addrs) // a path that connects and carries nothing
		err = &OpError{Op: "handshake", Peer: p.node.ID, Name: p.node.Name, Addr: remoteOf(raw), Err: err}
		p.c.refused(remoteOf(raw), err)
		p.complain(err)
		return err
	}
	s.link = i
	return p.serveDialed(ctx, s)
}

func (p *peer) serveDialed(ctx context.Context, s *session) error {
	p.first = 0
	p.nag.reset()
	select { // it was asked to dial before there was a connection
	case <-p.kick:
	default:
	}
	if err := p.serve(ctx, s); errors.Is(err, ErrMoved) {
		return err
	}
	return nil
}

func (p *peer) complain(err error) {
	if errors.Is(err, ErrStopped) || errors.Is(err, context.Canceled) {
		return
	}
	p.failed(err)
	level := p.nag.level(time.Now())
	p.c.log.Log(context.Background(), level, "cannot connect", "peer", p.node.ID, "err", err)
}

type dialed struct {
	index int
	conn  net.Conn
	err   error
}

// connect returns the first connection to any of the peer's addresses, and
// which one that was.
func (p *peer) connect(ctx context.Context) (net.Conn, int, error) {
	n := len(p.node.Addrs)
	if n == 0 {
		return nil, 0, errors.New("no address is configured for it")
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	results := make(chan dialed, n)
	for k, i := range p.order() {
		go func() {
			conn, err := p.dialAddr(ctx, i, time.Duration(k)*stagger)
			results <- dialed{i, conn, err}
		}()
	}
	var won dialed
	var errs []error
	began, kicked := time.Now(), false
	for left := n; left > 0; { // all of them, so that nothing is left behind
		var r dialed
		select {
		case <-p.kick:
			if kicked = true; time.Since(began) > patience {
				cancel()
			}
			continue
		case r = <-results:
			left--
		}
		switch {
		case r.err != nil:
			errs = append(errs, r.err)
		case won.conn != nil:
			_ = r.conn.Close()
		default:
			won = r
			cancel()
		}
	}
	if won.conn == nil {
		if kicked {
			p.c.Kick(p.node.ID)
		}
		return nil, 0, errors.Join(errs...)
	}
	return won.conn, won.index, nil
}

// order is that in which the addresses are tried: those on links that are avoided last.
func (p *peer) order() []int {
	p.mu.Lock()
	avoided := p.avoided
	p.mu.Unlock()
	n := len(p.node.Addrs)
	out := make([]int, n)
	for k := range n {
		out[k] = (p.first + k) % n
	}
	slices.SortStableFunc(out, func(a, b int) int {
		return cmp.Compare(btoi(slices.Contains(avoided, a)), btoi(slices.Contains(avoided, b)))
	})
	return out
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (p *peer) dialAddr(ctx context.Context, i int, later time.Duration) (net.Conn, error) {
	if later > 0 {
		t := time.NewTimer(later)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	remote := netip.AddrPortFrom(p.node.Addrs[i], p.c.port(p.node.ID))
	var local netip.AddrPort
	if own := p.c.self.Addrs; i < len(own) && own[i].Is4() == remote.Addr().Is4() {
		local = netip.AddrPortFrom(own[i], 0)
	}
	conn, err := p.c.dial(ctx, local, remote)
	if err != nil {
		return nil, err
	}
	tune(conn)
	return conn, nil
}
