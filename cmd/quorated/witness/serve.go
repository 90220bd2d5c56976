package witness

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	wire "github.com/quorate/quorate/membership/witness"
)

// Options are what main found out.
type Options struct {
	State  string // directory
	Listen string // address; empty: every one, at DefaultPort
	Name   string // of this witness, for people
	Log    *slog.Logger
	Ready  func(addr net.Addr) // called once when it serves; may be nil
}

// Server is the process.
type Server struct {
	opt   Options
	state state
	id    wire.Identity
	log   *slog.Logger
	now   func() time.Time
	gate  *gate

	mu       sync.Mutex
	clusters map[string]*host // by cluster id
	ctx      context.Context
	wg       sync.WaitGroup
}

// Run serves until ctx ends.
func Run(ctx context.Context, opt Options) error {
	if err := (cluster.Witness{Name: opt.Name, Addr: "a:1", Fingerprint: strings.Repeat("0", 64)}).Check(); err != nil {
		return fmt.Errorf("%w: say another --name", err)
	}
	s, err := open(opt)
	if err != nil {
		return err
	}
	lock, err := s.state.lock()
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if opt.Listen == "" {
		opt.Listen = net.JoinHostPort("", strconv.Itoa(DefaultPort))
	}
	lc := wire.ListenConfig()
	l, err := lc.Listen(ctx, "tcp", opt.Listen)
	if err != nil {
		return fmt.Errorf("the witness cannot listen: %w: name another address with --listen", err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err == nil {
		err = wire.WriteFile(filepath.Join(s.state.dir, "listen"), []byte(port+"\n"))
	}
	if err != nil {
		return errors.Join(err, l.Close())
	}
	s.log.Info("witness serves", "addr", l.Addr(), "fingerprint", fmt.Sprintf("%x", s.id.Fingerprint), "clusters", len(s.clusters))
	if opt.Ready != nil {
		opt.Ready(l.Addr())
	}
	return s.serve(ctx, l)
}

func open(opt Options) (*Server, error) {
	st, err := openState(opt.State)
	if err != nil {
		return nil, err
	}
	id, err := wire.LoadIdentity(st.dir)
	if err != nil {
		return nil, err
	}
	s := &Server{opt: opt, state: st, id: id, log: opt.Log, now: time.Now, gate: newGate(), clusters: map[string]*host{}}
	all, bad := st.load()
	for _, err := range bad {
		s.log.Error("an enrolment cannot be used", "err", err)
	}
	for _, e := range all {
		s.clusters[e.ClusterID] = newHost(s, e)
	}
	return s, nil
}

func (s *Server) serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.ctx = ctx
	for _, h := range s.clusters {
		s.wg.Go(func() { h.loop(ctx) })
	}
	s.mu.Unlock()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		raw, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				break
			}
			s.log.Debug("accept", "err", err)
			select { // out of descriptors: wait for some to come back
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		if leave, ok := s.gate.enter(addrOf(raw)); ok {
			s.wg.Go(func() { s.welcome(ctx, raw, leave) })
		} else {
			_ = raw.Close()
		}
	}
	cancel()
	s.wg.Wait()
	return nil
}

// welcome finds out who connected, and gives it to its cluster.
func (s *Server) welcome(ctx context.Context, raw net.Conn, leave func()) {
	var h *host
	c, hello, err := wire.Accept(ctx, raw, s.id, s.opt.Name, func(hello wire.Hello, t *tls.ConnectionState) (err error) {
		h, err = s.decide(hello, t)
		return err
	})
	leave()
	switch {
	case err != nil && !s.gate.complain(s.now()):
		s.log.Debug("connection not accepted", "addr", raw.RemoteAddr(), "err", err)
	case err != nil:
		s.log.Info("connection not accepted", "addr", raw.RemoteAddr(), "err", err)
	case hello.Enrols():
		c.Close(wire.ErrStopped)
	default:
		s.gate.know(addrOf(raw))
		h.carry(ctx, hello.From, c)
	}
}

// stranger is all that is told to who is not known.
var stranger = wire.Refusal{Text: "this witness does not know the cluster, or not its key: add it with a new token (`quorated --witness token` there, then `quorate witness add` here)"}

// decide says to which cluster a node belongs, or why it is refused.
func (s *Server) decide(hello wire.Hello, t *tls.ConnectionState) (*host, error) {
	if len(t.PeerCertificates) == 0 {
		return nil, stranger
	}
	leaf := t.PeerCertificates[0]
	if hello.Enrols() {
		if wire.Signed(leaf, hello.Authorities, hello.Cluster, hello.From) != nil {
			return nil, stranger
		}
		return nil, s.enrol(hello, leaf)
	}
	s.mu.Lock()
	h := s.clusters[hello.ClusterID]
	s.mu.Unlock()
	if h == nil {
		return nil, stranger
	}
	return h, h.admit(hello, leaf)
}

// enrol takes a cluster in, for a token. The one that used it up may come again
// with it: the answer may have been lost.
func (s *Server) enrol(hello wire.Hello, leaf *x509.Certificate) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	digest := hello.Digest()
	h := s.clusters[hello.ClusterID]
	switch {
	case h != nil && h.cameWith(digest, hello):
		return nil
	case h != nil && !h.knows(hello, leaf): // a token is no right to another cluster's place
		return wire.Refusal{Text: fmt.Sprintf("a cluster of that id is enrolled with another name or key; if it is the same one, first run `quorated --witness forget %s` there", hello.ClusterID)}
	case h == nil && len(s.clusters) >= MaxClusters:
		return wire.Refusal{Text: fmt.Sprintf("this witness has %d clusters already: forget one (`quorated --witness list`, `forget`)", MaxClusters)}
	}
	if err := s.state.claim(digest, s.now()); err != nil {
		return err
	}
	e := enrolment{Cluster: hello.Cluster, ClusterID: hello.ClusterID, Authorities: hello.Authorities, Nodes: slices.Clone(hello.Nodes),
		Interval: hello.Interval, DeadAfter: hello.DeadAfter, Token: digest, At: s.now().UTC()}
	if h != nil {
		return h.renew(e)
	}
	if err := s.state.save(e); err != nil {
		s.log.Error("an enrolment cannot be kept", "cluster", e.Cluster, "err", err)
		return wire.Refusal{Text: "the witness cannot write its state: see its log"}
	}
	s.log.Info("cluster enrolled", "cluster", e.Cluster, "id", e.ClusterID)
	h = newHost(s, e)
	s.clusters[e.ClusterID] = h
	s.wg.Go(func() { h.loop(s.ctx) })
	return nil
}

// MakeToken makes a token of the witness of a state directory; advertise is the
// address as the nodes dial it, empty: this machine's name and the port of the server.
func MakeToken(dir, advertise string, valid time.Duration) (wire.Token, error) {
	st, err := openState(dir)
	if err != nil {
		return wire.Token{}, err
	}
	id, err := wire.LoadIdentity(dir)
	if err != nil {
		return wire.Token{}, err
	}
	if valid < time.Minute || valid > 30*24*time.Hour {
		return wire.Token{}, fmt.Errorf("a token is good for a minute to 30 days, not %s: say another --for", membership.Short(valid))
	}
	if advertise, err = complete(st, advertise); err != nil {
		return wire.Token{}, err
	}
	now := time.Now()
	t := wire.NewToken(advertise, id.Fingerprint, now.Add(valid))
	return t, st.addToken(t, now)
}

// complete fills in what an address lacks.
func complete(st state, addr string) (string, error) {
	port := strconv.Itoa(DefaultPort)
	if b, err := readFile(filepath.Join(st.dir, "listen")); err == nil && len(b) < 8 {
		port = string(b[:max(len(b)-1, 0)])
	}
	if strings.ContainsAny(addr, " \t\n/@") {
		return "", fmt.Errorf("--advertise %q is not an address: write the name or number by which the nodes reach this machine, and :port where it is not %s", addr, port)
	}
	if addr == "" {
		name, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("this machine's name: %w: say --advertise host:port", err)
		}
		return net.JoinHostPort(name, port), nil
	}
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return net.JoinHostPort(addr, port), nil // a name or a number without a port
	}
	if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 || host == "" {
		return "", fmt.Errorf("--advertise %s is not host:port", addr)
	}
	return addr, nil
}

// Enrolled is a cluster as it is listed.
type Enrolled struct {
	Cluster, ID string
	Nodes       []membership.NodeID
	At          time.Time
	Joined      bool // the witness was given an id there
}

// List are the clusters that are enrolled in a state directory.
func List(dir string) ([]Enrolled, error) {
	st, err := openState(dir)
	if err != nil {
		return nil, err
	}
	all, bad := st.load()
	out := make([]Enrolled, 0, len(all))
	for _, e := range all {
		out = append(out, Enrolled{e.Cluster, e.ClusterID, e.Nodes, e.At, e.Self != 0})
	}
	return out, errors.Join(bad...)
}

// Forget removes a cluster, while nobody serves.
func Forget(dir, id string) error {
	st, err := openState(dir)
	if err != nil {
		return err
	}
	lock, err := st.lock()
	if err != nil {
		return err
	}
	return errors.Join(st.forget(id), lock.Close())
}
