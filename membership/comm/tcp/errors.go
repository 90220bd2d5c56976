package tcp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/quorate/quorate/membership"
)

// Why there is no connection, or none any more. Test for them with errors.Is.
var (
	// ErrKey: the other end's certificate is not from our secret, or it says so of ours.
	ErrKey = errors.New("the secrets differ: copy the key file of the nodes that are connected with each other, or else the one with the newest epoch (`quorate key status`), to the other node, and have it loaded there: `quorate key reload`, or start quorated")
	// ErrCluster: same secret, another cluster's name.
	ErrCluster = errors.New("the cluster names differ: correct \"cluster\" in the configuration, or give each cluster its own secret")
	// ErrNode: the peer is not the node that it should be, or is not configured.
	ErrNode = errors.New("not the expected node: compare node ids and addresses in both configurations")
	// ErrRemoved: the peer works by an agreed configuration that has not got the node.
	ErrRemoved = errors.New("the configuration that was agreed on has not got the node: it was removed, or is not added yet: on a member, `quorate node add` brings it in; else stop quorated there")
	// ErrProtocol: a version that this daemon does not speak.
	ErrProtocol = errors.New("the protocol versions differ: upgrade the older quorated")
	// ErrGarbage: bytes that are no frame of ours.
	ErrGarbage = errors.New("malformed data from the peer: look which program listens there, and install the same quorated on all nodes")
	// ErrReplaced: the same peer connected anew.
	ErrReplaced = errors.New("replaced by a newer connection of the same peer")
	// ErrMoved: the link of the connection carries nothing, and it goes on over another.
	ErrMoved = errors.New("moved away from a link that is silent or loses packets")
	// ErrDropped: this daemon closed the connection (Drop).
	ErrDropped = errors.New("closed by this node")
	// ErrUnconfigured: the configuration has this peer no more, or at other addresses.
	ErrUnconfigured = errors.New("the configuration was changed, and has this node no more or elsewhere")
	// ErrStopped: this daemon is stopping.
	ErrStopped = errors.New("this daemon is stopping")

	errNoSpares = errors.New("its quorated is older and knows no spare connections")
	errUnneeded = errors.New("another spare is wanted")
)

// OpError says what failed with whom.
type OpError struct {
	Op   string // listen, accept, dial, handshake, read, write
	Peer membership.NodeID
	Name string // of the peer, as configured; empty: its id is said
	Addr netip.AddrPort
	Err  error
}

func (e *OpError) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	switch {
	case e.Name != "":
		b.WriteString(" " + e.Name)
	case e.Peer != 0:
		fmt.Fprintf(&b, " node %d", e.Peer)
	}
	if e.Addr.IsValid() {
		fmt.Fprintf(&b, " at %s", e.Addr)
	}
	return b.String() + ": " + e.cause().Error()
}

// cause is the error without what net and os say before it, which is said already.
func (e *OpError) cause() error {
	n, ok := e.Err.(*net.OpError)
	if !ok || n.Net != "tcp" || !e.Addr.IsValid() {
		return e.Err
	}
	if s, ok := n.Err.(*os.SyscallError); ok {
		return s.Err
	}
	return n.Err
}

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// RefusedError says that two daemons reached each other and will not talk.
type RefusedError struct {
	Remote bool  // the other end refused this node
	Reason error // ErrKey, ErrCluster, ErrNode, ErrRemoved, ErrProtocol or ErrGarbage
	Text   string
}

func (e *RefusedError) Error() string {
	who := "refused"
	if e.Remote {
		who = "refused by the peer"
	}
	return fmt.Sprintf("%s: %s (%s)", who, e.Reason, e.Text)
}

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Reason }

func refuse(reason error, format string, args ...any) *RefusedError {
	return &RefusedError{Reason: reason, Text: fmt.Sprintf(format, args...)}
}

// The codes of reasons on the wire.
var codes = []error{1: ErrKey, 2: ErrCluster, 3: ErrNode, 4: ErrProtocol, 5: ErrGarbage, 6: ErrRemoved}

func codeOf(reason error) byte {
	for c, e := range codes {
		if e != nil && errors.Is(reason, e) {
			return byte(c)
		}
	}
	return 5
}

func reasonOf(code byte) error {
	if int(code) < len(codes) && codes[code] != nil {
		return codes[code]
	}
	return ErrProtocol // a reason that only a newer daemon knows
}

// tlsReason turns what crypto/tls says of a failed handshake into a refusal
// where it is one.
func tlsReason(err error) error {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) {
		return refuse(ErrGarbage, "it does not speak TLS")
	}
	if errors.Is(err, ErrGarbage) {
		return refuse(ErrGarbage, "%v", err)
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return refuse(ErrKey, "its certificate is not signed by this cluster's authority")
	}
	// An alert of the peer; crypto/tls has no exported value for a single one.
	text := err.Error()
	for _, alert := range []string{"bad certificate", "unknown certificate authority", "unknown certificate", "certificate required"} {
		if strings.HasSuffix(text, "tls: "+alert) && strings.Contains(text, "remote error") {
			return &RefusedError{Remote: true, Reason: ErrKey, Text: "it does not accept this node's certificate: " + alert}
		}
	}
	return err
}
