package tcp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/secret"
)

// Defaults.
const (
	DefaultPort      = 21060
	DefaultHandshake = 5 * time.Second
	DefaultQueue     = 4096
	DefaultQueueSize = 32 << 20
)

// Options are what a Comm is made of. Self, Cluster, Nodes, Secret and Handler
// must be given.
type Options struct {
	Self    membership.NodeID
	Cluster string // letters, digits, '-', '_', '.'; at most 255 bytes
	Nodes   []membership.Node
	Secret  secret.Secret
	Handler membership.CommHandler

	Instance   uint64   // this run of the daemon, told to peers
	ConfigHash [32]byte // told to peers and compared, never a reason to refuse
	Port       int      // 0: DefaultPort
	// Ports overrides Port for nodes that share an address, as in tests.
	Ports map[membership.NodeID]int
	// Refused, when set, is told of each refusal with a peer or stranger, at most
	// once in RefusedEvery for the same address and reason. It must not block.
	Refused      func(addr netip.AddrPort, err error)
	RefusedEvery time.Duration // 0: 10 s
	Logger       *slog.Logger  // nil: silent; it must not block

	Handshake time.Duration // 0: DefaultHandshake
	Queue     int           // messages queued for one peer; 0: DefaultQueue
	QueueSize int           // bytes queued for one peer; 0: DefaultQueueSize
}

// Comm connects this node with all others.
type Comm struct {
	opt      Options
	self     membership.Node
	nodes    atomic.Pointer[nodes]
	run      running
	believed atomic.Pointer[credentials]
	version  atomic.Uint64 // of the agreed configuration; 0: none
	log      *slog.Logger
	gate     refusals
	protocol uint16 // Protocol, but in tests
	feature  uint16 // Feature, but in tests
	askAfter time.Duration
	askEvery time.Duration
	dial     func(ctx context.Context, local, remote netip.AddrPort) (net.Conn, error)

	mu      sync.Mutex
	listens map[netip.AddrPort]string // own address: why it does not listen; empty when it does
}

var _ membership.Comm = (*Comm)(nil)

// New checks the options and makes this daemon's certificate. It opens nothing.
func New(opt Options) (*Comm, error) {
	if err := opt.fill(); err != nil {
		return nil, fmt.Errorf("comm: %w", err)
	}
	c := &Comm{
		opt:      opt,
		log:      opt.Logger,
		gate:     refusals{every: opt.RefusedEvery, told: map[string]time.Time{}},
		protocol: Protocol,
		feature:  Feature,
		askAfter: askAfter,
		askEvery: askEvery,
		dial:     dialTCP,
		listens:  map[netip.AddrPort]string{},
	}
	c.self = opt.Nodes[slices.IndexFunc(opt.Nodes, func(n membership.Node) bool { return n.ID == opt.Self })]
	c.nodes.Store(c.makeNodes(opt.Nodes, nil))
	for _, a := range c.self.Addrs {
		c.listens[netip.AddrPortFrom(a, c.port(c.self.ID))] = "not started"
	}
	if err := c.SetSecret(opt.Secret); err != nil {
		return nil, err
	}
	return c, nil
}

func (o *Options) fill() error {
	self := slices.IndexFunc(o.Nodes, func(n membership.Node) bool { return n.ID == o.Self })
	switch {
	case o.Self == 0 || self < 0:
		return fmt.Errorf("node %d (self) is not among the configured nodes", o.Self)
	case len(o.Nodes[self].Addrs) == 0:
		return fmt.Errorf("node %d (self) has no address", o.Self)
	case !validCluster(o.Cluster):
		return fmt.Errorf("the cluster's name must be 1 to %d letters, digits, '-', '_' or inner '.'", maxCluster)
	case o.Secret.Empty():
		return errors.New("the secret holds no key")
	case o.Handler == nil:
		return errors.New("no handler")
	}
	seen := map[membership.NodeID]bool{}
	for _, n := range o.Nodes {
		if n.ID == 0 || seen[n.ID] {
			return fmt.Errorf("node id %d is zero or stands there twice", n.ID)
		}
		seen[n.ID] = true
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&o.Port, DefaultPort)
	setDefault(&o.RefusedEvery, 10*time.Second)
	setDefault(&o.Handshake, DefaultHandshake)
	setDefault(&o.Queue, DefaultQueue)
	setDefault(&o.QueueSize, DefaultQueueSize)
	return nil
}

// validCluster says whether a name can be the host of the certificate's URI.
func validCluster(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			return false
		}
	}
	return len(name) <= maxCluster
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func (c *Comm) port(n membership.NodeID) uint16 {
	if p, ok := c.opt.Ports[n]; ok {
		return uint16(p)
	}
	return uint16(c.opt.Port)
}

// credentials are what a secret gives for a handshake.
type credentials struct {
	tls   *tls.Config // of both ends
	roots *x509.CertPool
}

// SetSecret has all later handshakes use a secret: a certificate of its first key,
// and the authorities of all its keys. It may be called at any time. Connections that
// stand are not touched: a certificate says who is there when a connection is made,
// and the keys that then protect it come from that connection alone (TLS 1.3, ephemeral
// Diffie-Hellman). So one whose authority is no longer believed stays until it breaks.
func (c *Comm) SetSecret(s secret.Secret) error {
	leaf, err := s.Leaf(nodeURI(c.opt.Cluster, c.opt.Self))
	if err != nil {
		return fmt.Errorf("comm: %w", err)
	}
	roots, err := s.Roots()
	if err != nil {
		return fmt.Errorf("comm: %w", err)
	}
	made := &credentials{roots: roots}
	made.tls = &tls.Config{
		Certificates:                []tls.Certificate{leaf},
		MinVersion:                  tls.VersionTLS13,
		Time:                        secret.CheckTime,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
		NextProtos:                  []string{"quorate"},
		// Names are node ids in a URI, which crypto/tls does not check:
		// signed checks the signature and identify the name, for both ends.
		InsecureSkipVerify: true,
		ClientAuth:         tls.RequireAnyClientCert,
		VerifyConnection:   func(s tls.ConnectionState) error { return c.believed.Load().signed(s) },
	}
	c.believed.Store(made)
	return nil
}

func nodeURI(cluster string, id membership.NodeID) *url.URL {
	return &url.URL{Scheme: "quorate", Host: cluster, Path: "/node/" + strconv.FormatUint(uint64(id), 10)}
}

// signed is all that TLS itself asks: is the other end of this cluster's secret?
// Which node it is comes after, when there is a way to say why not. A handshake that
// a change overtakes is judged by what is believed when it ends.
func (c *credentials) signed(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return refuse(ErrKey, "it has no certificate")
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots:       c.roots,
		CurrentTime: secret.CheckTime(),
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return refuse(ErrKey, "its certificate is not signed by this cluster's authority")
	}
	return nil
}

// identify says which configured node a certificate names; want is 0 when any will do.
func (c *Comm) identify(s tls.ConnectionState, want membership.NodeID) (membership.NodeID, error) {
	uris := s.PeerCertificates[0].URIs
	if len(uris) != 1 {
		return 0, refuse(ErrNode, "its certificate names no node")
	}
	id, ok := c.nodes.Load().names[uris[0].String()]
	switch {
	case !ok && uris[0].Host != c.opt.Cluster:
		return 0, refuse(ErrCluster, "cluster %q met cluster %q", printable(uris[0].Host), c.opt.Cluster)
	case !ok && want == 0 && c.version.Load() != 0:
		return 0, c.removed(uris[0].String())
	case !ok:
		return 0, refuse(ErrNode, "%s is not configured at node %d", printable(uris[0].String()), c.opt.Self)
	case id == c.opt.Self:
		return 0, refuse(ErrNode, "both ends are node %d", id)
	case want != 0 && id != want:
		return 0, refuse(ErrNode, "node %d is where node %d was expected", id, want)
	}
	return id, nil
}

// removed refuses who is not in the agreed configuration (any more).
func (c *Comm) removed(name string) error {
	return refuse(ErrRemoved, "version %d, at node %d, has no %s", c.version.Load(), c.opt.Self, printable(name))
}

// SetVersion says of which agreed version the configured nodes are: who is none of them
// is told that. 0: they are a file's.
func (c *Comm) SetVersion(v uint64) { c.version.Store(v) }

// Run listens on every own address and dials every peer with a higher id, until
// ctx ends and every goroutine is gone. Handlers have then been told of the end
// of each connection. It is called once.
func (c *Comm) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	gate := c.begin(ctx, &wg)
	for _, addr := range c.listenAddrs() {
		wg.Go(func() { c.listen(ctx, addr, gate, &wg) })
	}
	wg.Wait()
	return nil
}

// Send queues a copy of data for a peer. It never blocks.
func (c *Comm) Send(to membership.NodeID, data []byte) bool {
	p, ok := c.peer(to)
	return ok && p.send(data)
}

// Kick dials a peer now, when it is this node that dials and there is no
// connection: somebody has just heard of it.
func (c *Comm) Kick(id membership.NodeID) {
	if p, ok := c.peer(id); ok {
		select {
		case p.kick <- struct{}{}:
		default:
		}
	}
}

// Drop ends a peer's connection; Disconnected says reason. The pair connects anew.
func (c *Comm) Drop(id membership.NodeID, reason error) {
	if p, ok := c.peer(id); ok {
		p.drop(errors.Join(ErrDropped, reason))
	}
}
