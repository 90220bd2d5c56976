package witness

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/secret"
)

// Protocol is the version of what is said before a connection is ready.
const Protocol = 1

const (
	frameHello   = 1
	frameRefuse  = 2
	frameReady   = 3
	frameMessage = 4

	headerSize     = 5
	maxHello       = 64 << 10 // bytes of a frame before a connection is ready
	maxAuthorities = 8
	maxAuthority   = 2 << 10
	maxNodes       = 256
	maxName        = 255
	maxID          = 64
)

// Why there is no connection. Test for them with errors.Is.
var (
	// ErrGarbage: bytes that are no frame of ours.
	ErrGarbage = errors.New("malformed data")
	// ErrRefused: the witness does not want this node, or this node not the witness.
	ErrRefused = errors.New("refused")
	// ErrCertificate: at the address is another than the witness that was introduced.
	ErrCertificate = errors.New("the certificate there is not the witness's: its state directory was lost, or another machine has the address; " +
		"`quorate witness remove`, then add it with a new token")
)

// Hello is what a node says of itself and its cluster.
type Hello struct {
	Protocol    int                 `json:"protocol"`
	Secret      []byte              `json:"secret,omitempty"` // of a token: enrol the cluster, and no more
	Cluster     string              `json:"cluster"`          // its name
	ClusterID   string              `json:"cluster_id"`       // made at its formation
	From        membership.NodeID   `json:"from"`
	To          membership.NodeID   `json:"to,omitempty"` // the witness's id in the cluster; 0 to enrol
	Authorities [][]byte            `json:"authorities"`  // certificates of the cluster's keys, DER
	Nodes       []membership.NodeID `json:"nodes"`
	Interval    time.Duration       `json:"interval"`   // of its probes
	DeadAfter   time.Duration       `json:"dead_after"` // its limit
}

// Ready is the witness's answer.
type Ready struct {
	Protocol int    `json:"protocol"`
	Name     string `json:"name"` // of the witness
}

// Refusal is the other answer.
type Refusal struct {
	Text string `json:"text"` // what is wrong and what to do
}

func (r Refusal) Error() string { return "refused by the witness: " + r.Text }

// Unwrap returns ErrRefused.
func (r Refusal) Unwrap() error { return ErrRefused }

// Enrols says whether the node only introduces its cluster.
func (h Hello) Enrols() bool { return len(h.Secret) > 0 }

// Digest is that of the token that the node was given.
func (h Hello) Digest() string { return digest(h.Secret) }

// ParseHello reads and checks a hello; the error is an ErrGarbage, or a Refusal of
// what a node of another version says.
func ParseHello(b []byte) (Hello, error) {
	var h Hello
	if len(b) > maxHello {
		return h, fmt.Errorf("%w: a hello of %d bytes", ErrGarbage, len(b))
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&h); err != nil {
		return h, fmt.Errorf("%w: it is not a hello", ErrGarbage)
	}
	if h.Protocol != Protocol {
		return h, Refusal{fmt.Sprintf("the node speaks protocol %d, this witness %d: install the same version", h.Protocol, Protocol)}
	}
	return h, h.check()
}

func (h Hello) check() error {
	bad := func(what string) error { return fmt.Errorf("%w: hello: %s", ErrGarbage, what) }
	switch {
	case !word(h.Cluster, maxName):
		return bad("the cluster's name")
	case !word(h.ClusterID, maxID):
		return bad("the cluster's id")
	case h.From == 0 || h.From.IsWitness():
		return bad("the node's id")
	case h.Enrols() != (h.To == 0) || h.To != 0 && !h.To.IsWitness():
		return bad("the witness's id")
	case h.Enrols() && len(h.Secret) != secretSize:
		return bad("the token's secret")
	case len(h.Authorities) == 0 || len(h.Authorities) > maxAuthorities:
		return bad("the number of authorities")
	case len(h.Nodes) == 0 || len(h.Nodes) > maxNodes:
		return bad("the number of nodes")
	case h.Interval <= 0 || h.DeadAfter < h.Interval || h.DeadAfter > time.Minute:
		return bad("the times")
	}
	seen := map[membership.NodeID]bool{}
	for _, n := range h.Nodes {
		if n == 0 || n.IsWitness() || seen[n] {
			return bad("a node's id")
		}
		seen[n] = true
	}
	for _, a := range h.Authorities {
		if len(a) > maxAuthority {
			return bad("an authority")
		}
	}
	_, err := Roots(h.Authorities)
	return err
}

// word says whether a text can be a part of a path and of a URI's host. It holds no
// slash, and does not begin with a dot.
func word(s string, most int) bool {
	ok := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.'
	}
	return s != "" && len(s) <= most && s[0] != '.' && !strings.ContainsFunc(s, func(r rune) bool { return !ok(r) })
}

// Roots are authorities as a pool.
func Roots(authorities [][]byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, der := range authorities {
		c, err := x509.ParseCertificate(der)
		if err != nil || !c.IsCA {
			return nil, fmt.Errorf("%w: an authority that is none", ErrGarbage)
		}
		pool.AddCert(c)
	}
	return pool, nil
}

// NodeURI is the name in a node's leaf, as in membership/comm/tcp.
func NodeURI(cluster string, id membership.NodeID) *url.URL {
	return &url.URL{Scheme: "quorate", Host: cluster, Path: "/node/" + strconv.FormatUint(uint64(id), 10)}
}

// Signed says whether a leaf is that of a cluster's node: signed by one of the
// authorities, and with the name. Clocks play no part.
func Signed(leaf *x509.Certificate, authorities [][]byte, cluster string, id membership.NodeID) error {
	pool, err := Roots(authorities)
	if err != nil {
		return err
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: secret.CheckTime(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fmt.Errorf("%w: its certificate is of another key", ErrRefused)
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != NodeURI(cluster, id).String() {
		return fmt.Errorf("%w: its certificate names another node or cluster", ErrRefused)
	}
	return nil
}

// appendFrame appends a frame.
func appendFrame(b []byte, kind byte, body []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)+1))
	b = append(b, kind)
	return append(b, body...)
}

// readFrame reads one frame whose body is at most limit bytes. The body grows as it
// comes: nobody has memory set aside by what he says alone.
func readFrame(r *bufio.Reader, limit int) (kind byte, body []byte, err error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || uint64(n) > uint64(limit)+1 {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes, 1 to %d are allowed here", ErrGarbage, n, limit+1)
	}
	var buf bytes.Buffer
	if _, err := io.CopyN(&buf, r, int64(n-1)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return head[4], buf.Bytes(), nil
}

// parseAnswer reads what a witness answers to a hello.
func parseAnswer(kind byte, body []byte) (Ready, error) {
	var r Ready
	switch kind {
	case frameRefuse:
		var no Refusal
		if err := json.Unmarshal(body, &no); err != nil {
			return r, fmt.Errorf("%w: a refusal that cannot be read", ErrGarbage)
		}
		no.Text = printable(no.Text)
		return r, no
	case frameReady:
		if err := json.Unmarshal(body, &r); err != nil || !word(r.Name, 63) {
			return r, fmt.Errorf("%w: an answer that cannot be read", ErrGarbage)
		}
		return r, nil
	}
	return r, fmt.Errorf("%w: a frame of type %d", ErrGarbage, kind)
}

// printable keeps a peer's words on one line of a log.
func printable(s string) string {
	if len(s) > 512 {
		s = s[:512]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
