package tcp

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/comm/commtest"
	"github.com/quorate/quorate/membership/secret"
)

// cable is a connection that can be cut without either end being told, as when
// a machine loses power.
type cable struct {
	net.Conn
	cut atomic.Bool
}

func (c *cable) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.cut.Load() && err == nil {
		return c.Read(b) // lost
	}
	return n, err
}

func (c *cable) Write(b []byte) (int, error) {
	if c.cut.Load() {
		return len(b), nil // lost
	}
	return c.Conn.Write(b)
}

func (c *cable) Close() error {
	if c.cut.Load() {
		return c.SetReadDeadline(time.Unix(1, 0)) // no FIN is sent
	}
	return c.Conn.Close()
}

// eventually waits until ok, which it asks again and again.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(began) > commtest.Patience {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// A peer vanishes without a word and comes back: its new connection takes the
// place of the dead one at once, long before any time-out.
func TestHalfOpenIsReplaced(t *testing.T) {
	r := &rig{}
	nodes, key := r.nodes(t, 2), commtest.Secret(t)
	var cables []*cable
	var mu sync.Mutex
	b, comm := r.start(t, commtest.Spec{Self: 2, Nodes: nodes, Secret: key}, nil)
	first, _ := r.start(t, commtest.Spec{Self: 1, Nodes: nodes, Secret: key, Instance: 11}, func(c *Comm) {
		c.dial = func(ctx context.Context, l, r netip.AddrPort) (net.Conn, error) {
			conn, err := dialTCP(ctx, l, r)
			if err != nil {
				return nil, err
			}
			mu.Lock()
			defer mu.Unlock()
			cables = append(cables, &cable{Conn: conn})
			return cables[len(cables)-1], nil
		}
	})
	b.Await(commtest.Connected, 1, 1)
	first.Await(commtest.Connected, 2, 1)
	mu.Lock()
	for _, c := range cables {
		c.cut.Store(true)
		defer c.Conn.Close()
	}
	mu.Unlock()
	first.Stop()
	if n := b.Count(commtest.Disconnected, 1); n != 0 {
		t.Fatal("the cut was noticed: the test tests nothing")
	}
	began := time.Now()
	again, _ := r.start(t, commtest.Spec{Self: 1, Nodes: nodes, Secret: key, Instance: 12}, nil)
	again.Await(commtest.Connected, 2, 1)
	b.Await(commtest.Connected, 1, 2)
	if took := time.Since(began); took > userTimeout/2 {
		t.Errorf("it took %v", took)
	}
	for _, c := range b.Calls() {
		if c.Kind == commtest.Disconnected && !errors.Is(c.Err, ErrReplaced) {
			t.Errorf("the old one ended with %v", c.Err)
		}
	}
	if in, ok := comm.Instance(1); !ok || in != 12 {
		t.Errorf("instance %d, %v", in, ok)
	}
}

// Another machine says, with the right key, that it is a node which is there
// already: it is told why not, and the node keeps its connection.
func TestDuplicateID(t *testing.T) {
	r := &rig{}
	nodes, key := r.nodes(t, 3), commtest.Secret(t)
	elsewhere := slices.Clone(nodes)
	elsewhere[0].Addrs, elsewhere[2].Addrs = nodes[2].Addrs, nodes[0].Addrs
	refused := make(chan error, 2)
	watch := func(err error) { refused <- err }
	b, _ := r.start(t, commtest.Spec{Self: 2, Nodes: nodes, Secret: key, Refused: watch}, nil)
	a, _ := r.start(t, commtest.Spec{Self: 1, Nodes: nodes, Secret: key}, nil)
	b.Await(commtest.Connected, 1, 1)
	second, _ := r.start(t, commtest.Spec{Self: 1, Nodes: elsewhere, Secret: key, Refused: watch}, nil)
	for range 2 { // at both ends
		select {
		case err := <-refused:
			if !errors.Is(err, ErrNode) || !strings.Contains(err.Error(), nodes[2].Addrs[0].String()) {
				t.Errorf("refused: %v", err)
			}
		case <-time.After(commtest.Patience):
			t.Fatal("nobody is told")
		}
	}
	if n := b.Count(commtest.Disconnected, 1) + a.Count(commtest.Disconnected, 2) + second.Count(commtest.Connected, 2); n != 0 {
		t.Errorf("the node was disturbed: %v", b.Calls())
	}
}

// The first link carries nothing, or connects and then carries nothing: the
// second is used.
func TestSecondLink(t *testing.T) {
	for name, first := range map[string]func(ctx context.Context) (net.Conn, error){
		"refuses": func(context.Context) (net.Conn, error) { return nil, errors.New("no route") },
		"swallows": func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"connects only": func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() { // reads and never answers, until it is closed
				_, _ = bytes.NewBuffer(nil).ReadFrom(theirs)
				_ = theirs.Close()
			}()
			return ours, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := &rig{edit: func(o *Options) { o.Handshake = 300 * time.Millisecond }}
			nodes, key := r.nodes(t, 2), commtest.Secret(t)
			for i := range nodes {
				a := nodes[i].Addrs[0].As4()
				a[1]++
				nodes[i].Addrs = append(nodes[i].Addrs, netip.AddrFrom4(a))
			}
			dead := nodes[1].Addrs[0]
			b, _ := r.start(t, commtest.Spec{Self: 2, Nodes: nodes, Secret: key}, nil)
			a, comm := r.start(t, commtest.Spec{Self: 1, Nodes: nodes, Secret: key}, func(c *Comm) {
				c.dial = func(ctx context.Context, l, r netip.AddrPort) (net.Conn, error) {
					if r.Addr() == dead {
						return first(ctx)
					}
					return dialTCP(ctx, l, r)
				}
			})
			a.Await(commtest.Connected, 2, 1)
			b.Await(commtest.Connected, 1, 1)
			if got := comm.Status().Peers[0].Addr.Addr(); got != nodes[1].Addrs[1] {
				t.Errorf("connected to %v", got)
			}
		})
	}
}

// With no errors but refused connections the dialler has backed off to its
// longest wait; Kick ends it.
func TestKick(t *testing.T) {
	r := &rig{}
	nodes, key := r.nodes(t, 2), commtest.Secret(t)
	tries := make(chan struct{}, 1000)
	a, comm := r.start(t, commtest.Spec{Self: 1, Nodes: nodes, Secret: key}, func(c *Comm) {
		c.dial = func(ctx context.Context, l, r netip.AddrPort) (net.Conn, error) {
			tries <- struct{}{}
			return nil, errors.New("nobody there")
		}
	})
	for range 5 { // 100, 200, 400, 800 ms
		<-tries
	}
	began := time.Now()
	comm.Kick(2)
	<-tries
	if took := time.Since(began); took > retryMax/2 {
		t.Errorf("it tried again after %v", took)
	}
	comm.Kick(99)
	if n := a.Count(commtest.Connected, 2); n != 0 {
		t.Error("connected to nobody")
	}
	if st := comm.Status().Peers[0]; st.Connected || !strings.Contains(st.LastError, "nobody there") {
		t.Errorf("%+v", st)
	}
}

// Kick cuts an attempt short that hangs in a black hole.
func TestKickCutsShort(t *testing.T) {
	r := &rig{}
	nodes, key := r.nodes(t, 2), commtest.Secret(t)
	tries := make(chan time.Time, 1000)
	_, comm := r.start(t, commtest.Spec{Self: 1, Nodes: nodes, Secret: key}, func(c *Comm) {
		c.dial = func(ctx context.Context, l, r netip.AddrPort) (net.Conn, error) {
			tries <- time.Now()
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	began := <-tries
	for {
		comm.Kick(2)
		select {
		case again := <-tries:
			if took := again.Sub(began); took < patience || took > connectTimeout {
				t.Errorf("it tried again after %v", took)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestDrop(t *testing.T) {
	r := &rig{}
	nodes, key := r.nodes(t, 2), commtest.Secret(t)
	a, _ := r.start(t, commtest.Spec{Self: 1, Nodes: nodes, Secret: key}, nil)
	b, comm := r.start(t, commtest.Spec{Self: 2, Nodes: nodes, Secret: key}, nil)
	b.Await(commtest.Connected, 1, 1)
	why := errors.New("convicted")
	comm.Drop(1, why)
	b.Await(commtest.Disconnected, 1, 1)
	a.Await(commtest.Disconnected, 2, 1)
	b.Await(commtest.Connected, 1, 2)
	for _, c := range b.Calls() {
		if c.Kind == commtest.Disconnected && (!errors.Is(c.Err, why) || !errors.Is(c.Err, ErrDropped)) {
			t.Errorf("told %v", c.Err)
		}
	}
	comm.Drop(99, why)
}

// Two keys overlap while they are rotated: nodes that send with different ones
// talk to each other.
func TestRotation(t *testing.T) {
	r := &rig{}
	nodes := r.nodes(t, 3)
	var text bytes.Buffer
	if err := secret.Generate(&text); err != nil {
		t.Fatal(err)
	}
	oldKey := text.String()
	text.Reset()
	if err := secret.Generate(&text); err != nil {
		t.Fatal(err)
	}
	newKey := strings.Replace(text.String(), " 1 ", " 2 ", 1)
	parse := func(text string) secret.Secret {
		s, err := secret.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, _ := r.start(t, commtest.Spec{Self: 1, Nodes: nodes, Secret: parse(oldKey + newKey)}, nil)
	b, _ := r.start(t, commtest.Spec{Self: 2, Nodes: nodes, Secret: parse(newKey + oldKey)}, nil)
	a.Await(commtest.Connected, 2, 1)
	b.Await(commtest.Connected, 1, 1)

	// Node 3 knows only the old key: node 2, which dials it, does not get in,
	// and learns from the alert why.
	_, c2 := r.start(t, commtest.Spec{Self: 3, Nodes: nodes, Secret: parse(oldKey)}, nil)
	a.Await(commtest.Connected, 3, 1)
	eventually(t, "node 3 refuses node 2 in words", func() bool {
		return strings.Contains(c2.Status().Peers[1].LastError+strings.Join(refusedTexts(c2), " "), "secrets differ")
	})
}

func refusedTexts(c *Comm) []string {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	var out []string
	for text := range c.gate.told {
		out = append(out, text)
	}
	return out
}

// Both ends say in words that their protocols differ.
func TestProtocolsDiffer(t *testing.T) {
	for _, newer := range []membership.NodeID{1, 2} {
		r := &rig{}
		nodes, key := r.nodes(t, 2), commtest.Secret(t)
		told := make(chan error, 100)
		var comms [3]*Comm
		for id := membership.NodeID(1); id <= 2; id++ {
			s := commtest.Spec{Self: id, Nodes: nodes, Secret: key, Refused: func(err error) { told <- err }}
			_, comms[id] = r.start(t, s, func(c *Comm) {
				if id == newer {
					c.protocol = Protocol + 1
				}
			})
		}
		remote := map[bool]int{}
		for range 2 {
			err := <-told
			var refused *RefusedError
			if !errors.Is(err, ErrProtocol) || !errors.As(err, &refused) {
				t.Fatal(err)
			}
			remote[refused.Remote]++
			if !strings.Contains(err.Error(), "protocol 1") || !strings.Contains(err.Error(), "protocol 2") {
				t.Error(err)
			}
		}
		if remote[true] != 1 || remote[false] != 1 {
			t.Errorf("refusals here and there: %v", remote)
		}
		for id := 1; id <= 2; id++ {
			eventually(t, "status says why", func() bool {
				return strings.Contains(comms[id].Status().Peers[0].LastError, "upgrade")
			})
		}
	}
}

// The address comes only later, as with DHCP or a slow bond.
func TestListenRetries(t *testing.T) {
	r := &rig{}
	nodes, key := r.nodes(t, 2), commtest.Secret(t)
	taken, err := net.Listen("tcp", netip.AddrPortFrom(nodes[1].Addrs[0], uint16(r.ports[2])).String())
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	r.edit = func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) }
	_, comm := r.start(t, commtest.Spec{Self: 2, Nodes: nodes, Secret: key}, nil)
	r.edit = nil
	eventually(t, "status names the cause", func() bool {
		return strings.Contains(comm.Status().Listen[0].Error, "another program")
	})
	_ = taken.Close()
	a, _ := r.start(t, commtest.Spec{Self: 1, Nodes: nodes, Secret: key}, nil)
	a.Await(commtest.Connected, 2, 1)
	if e := comm.Status().Listen[0].Error; e != "" {
		t.Error(e)
	}
}

func TestAddressMissing(t *testing.T) {
	r := &rig{}
	nodes := r.nodes(t, 1)
	nodes[0].Addrs[0] = netip.MustParseAddr("192.0.2.254")
	_, comm := r.start(t, commtest.Spec{Self: 1, Nodes: nodes, Secret: commtest.Secret(t)}, nil)
	eventually(t, "status names the cause", func() bool {
		return strings.Contains(comm.Status().Listen[0].Error, "does not have the address")
	})
}

func TestStatus(t *testing.T) {
	r := &rig{}
	nodes, key := r.nodes(t, 3), commtest.Secret(t)
	r.edit = func(o *Options) { o.ConfigHash[0] = byte(o.Self) / 2 } // 0, 1, 1
	a, ca := r.start(t, commtest.Spec{Self: 1, Nodes: nodes, Secret: key, Instance: 11}, nil)
	b, cb := r.start(t, commtest.Spec{Self: 2, Nodes: nodes, Secret: key, Instance: 22}, nil)
	c, _ := r.start(t, commtest.Spec{Self: 3, Nodes: nodes, Secret: key, Instance: 33}, nil)
	a.Await(commtest.Connected, 2, 1)
	b.Await(commtest.Connected, 1, 1)
	b.Await(commtest.Connected, 3, 1)
	c.Await(commtest.Connected, 1, 1)
	st := ca.Status()
	if p := st.Peers[0]; !p.Connected || p.Peer != 2 || p.Instance != 22 || p.SameConfig || p.Since.IsZero() || p.Feature != Feature {
		t.Errorf("%+v", p)
	}
	if p := cb.Status().Peers[1]; p.Peer != 3 || !p.SameConfig {
		t.Errorf("%+v", p)
	}
	if ca.Send(2, make([]byte, membership.MaxMessage+1)) || ca.Status().Peers[0].Dropped != 1 {
		t.Error("what is dropped is not counted")
	}
	if _, ok := ca.Instance(99); ok {
		t.Error("an instance of nobody")
	}
}

func TestNewRefuses(t *testing.T) {
	r := &rig{}
	nodes, key := r.nodes(t, 2), commtest.Secret(t)
	for name, edit := range map[string]func(*Options){
		"3 (self)":   func(o *Options) { o.Self = 3 },
		"0 (self)":   func(o *Options) { o.Self = 0 },
		"no address": func(o *Options) { o.Nodes[0].Addrs = nil },
		"name":       func(o *Options) { o.Cluster = "" },
		"the name":   func(o *Options) { o.Cluster = "two words" },
		"inner":      func(o *Options) { o.Cluster = "dot." },
		"letters":    func(o *Options) { o.Cluster = strings.Repeat("x", 256) },
		"no key":     func(o *Options) { o.Secret = secret.Secret{} },
		"no handler": func(o *Options) { o.Handler = nil },
		"twice":      func(o *Options) { o.Nodes[1].ID = 1 },
	} {
		opt := r.options(commtest.Spec{Self: 1, Nodes: slices.Clone(nodes), Secret: key, Handler: commtest.NewRecorder(t)})
		edit(&opt)
		if _, err := New(opt); err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(name, "the ")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, good := range []string{"a", "My_Cluster-1", "prod.example"} {
		if !validCluster(good) {
			t.Errorf("%q is refused", good)
		}
	}
}

func TestRefusalsAreRationed(t *testing.T) {
	g := refusals{every: time.Second, told: map[string]time.Time{}}
	at := time.Unix(1000, 0)
	if !g.pass(at, "a") || g.pass(at.Add(999*time.Millisecond), "a") || !g.pass(at, "b") || !g.pass(at.Add(time.Second), "a") {
		t.Error("not once a second for each text")
	}
	for i := range 2 * maxRefusals {
		g.pass(at, strings.Repeat("x", i))
	}
	if len(g.told) > maxRefusals {
		t.Errorf("%d texts are kept", len(g.told))
	}
	if !g.pass(at.Add(time.Hour), "new") {
		t.Error("full for ever")
	}
}

func TestNag(t *testing.T) {
	var n nag
	at := time.Unix(1000, 0)
	for _, c := range []struct {
		after time.Duration
		want  slog.Level
	}{
		{0, slog.LevelDebug}, {59 * time.Second, slog.LevelDebug}, {time.Minute, slog.LevelError},
		{2 * time.Minute, slog.LevelDebug}, {61 * time.Minute, slog.LevelError},
	} {
		if got := n.level(at.Add(c.after)); got != c.want {
			t.Errorf("after %v: %v", c.after, got)
		}
	}
	n.reset()
	if n.level(at.Add(2*time.Hour)) != slog.LevelDebug {
		t.Error("not reset")
	}
}

func TestAdmission(t *testing.T) {
	known, other, stranger := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.9")
	a, at := newAdmission(map[netip.Addr]bool{known: true, other: true}), time.Now()
	var leave func()
	for range maxStrangersPending {
		l, ok := a.enter(at, stranger)
		if !ok {
			t.Fatal("no place")
		}
		leave = l
	}
	at = at.Add(time.Minute)
	if _, ok := a.enter(at, stranger); ok {
		t.Error("one too many")
	}
	for range maxPeerPending {
		if _, ok := a.enter(at, known); !ok {
			t.Error("strangers keep a peer out")
		}
	}
	if _, ok := a.enter(at, known); ok {
		t.Error("one too many of a peer")
	}
	if _, ok := a.enter(at, other); !ok {
		t.Error("one peer keeps another out")
	}
	leave()
	if _, ok := a.enter(at, stranger); !ok {
		t.Error("a place that was left is not given again")
	}
}

// Whoever connects again and again has its attempts bounded, and nobody else's.
func TestAdmissionRate(t *testing.T) {
	known, other, stranger := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::2"), netip.MustParseAddr("10.0.0.9")
	a, at := newAdmission(map[netip.Addr]bool{known: true, other: true}), time.Now()
	try := func(from netip.Addr, n int) (passed int) {
		for range n {
			if leave, ok := a.enter(at, from); ok {
				leave()
				passed++
			}
		}
		return passed
	}
	for _, c := range []struct {
		from        netip.Addr
		burst, rate int
	}{{stranger, maxStrangersPending, strangerRate}, {known, peerBurst, peerRate}, {other, peerBurst, peerRate}} {
		if n := try(c.from, 1000); n != c.burst {
			t.Errorf("%s: %d at once, expected %d", c.from, n, c.burst)
		}
		at = at.Add(time.Second)
		if n := try(c.from, 1000); n != c.rate {
			t.Errorf("%s: %d in a second, expected %d", c.from, n, c.rate)
		}
		at = at.Add(time.Hour)
		if n := try(c.from, 1000); n != c.burst {
			t.Errorf("%s: %d after an hour, expected %d", c.from, n, c.burst)
		}
	}
}

// Both ends of a connection send short packets alone, over a path that has room for
// long ones.
func TestShortSegments(t *testing.T) {
	lc := net.ListenConfig{Control: shortSegments}
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, _ := l.Accept()
		accepted <- conn
	}()
	dialled, err := dialTCP(t.Context(), netip.AddrPort{}, netip.MustParseAddrPort(l.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{dialled, <-accepted} {
		defer conn.Close()
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) {
			if n, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG); err != nil || n > maxSegment || n < maxSegment-60 {
				t.Errorf("segments of %d bytes, %v", n, err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}
