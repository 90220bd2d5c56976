package witness

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/membership"
)

func parsed(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func identity(t testing.TB) Identity {
	t.Helper()
	id, err := LoadIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestIdentityStays(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	prints := make([][32]byte, 8)
	for i := range prints {
		wg.Go(func() {
			id, err := LoadIdentity(dir)
			if err != nil {
				t.Error(err)
			}
			prints[i] = id.Fingerprint
		})
	}
	wg.Wait()
	for _, p := range prints {
		if p != prints[0] {
			t.Fatal("two that came first have two identities")
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	path := filepath.Join(dir, identityName)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadIdentity(dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
	if err := errors.Join(os.WriteFile(path, []byte("x"), 0o600), os.Chmod(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadIdentity(dir); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("a broken one: %v", err)
	}
}

// far is a witness that answers every message.
type far struct {
	id     Identity
	addr   string
	refuse error
	said   chan Hello

	mu    sync.Mutex
	conns []*Conn
}

func newFar(t *testing.T) *far {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &far{id: identity(t), addr: l.Addr().String(), said: make(chan Hello, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { f.serve(ctx, raw) })
		}
	})
	t.Cleanup(func() { cancel(); _ = l.Close(); wg.Wait() })
	return f
}

func (f *far) serve(ctx context.Context, raw net.Conn) {
	c, h, err := Accept(ctx, raw, f.id, "eye", func(Hello, *tls.ConnectionState) error { return f.refuse })
	f.said <- h
	if err != nil {
		return
	}
	f.mu.Lock()
	f.conns = append(f.conns, c)
	f.mu.Unlock()
	_ = c.Run(ctx, func(b []byte) { c.Send(append([]byte("re: "), b...)) })
}

func (f *far) target() *Target {
	return &Target{ID: membership.FirstWitness, Addr: f.addr, Fingerprint: hex.EncodeToString(f.id.Fingerprint[:]), ClusterID: "c1"}
}

// near takes what a client reports.
type near struct{ said chan string }

func (n near) Connected(p membership.NodeID)         { n.said <- fmt.Sprint("up ", p-membership.FirstWitness) }
func (n near) Message(_ membership.NodeID, b []byte) { n.said <- string(b) }
func (n near) Disconnected(_ membership.NodeID, err error) {
	select {
	case n.said <- "down: " + err.Error():
	default:
	}
}

func (n near) want(t *testing.T, words string) {
	t.Helper()
	for {
		select {
		case got := <-n.said:
			if strings.Contains(got, words) {
				return
			}
			if !strings.HasPrefix(got, "down") {
				t.Fatalf("%q, not %q", got, words)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("not said: %q", words)
		}
	}
}

func TestClientKeepsAConnection(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("story", func(t *testing.T) {
		f, n := newFar(t), near{make(chan string, 1000)}
		c := NewClient(clusterOf(newSecret(t), 1), n, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		defer func() { cancel(); <-done }()
		if c.Send(membership.FirstWitness, []byte("x")) {
			t.Error("sent to nobody")
		}
		c.Set(f.target())
		n.want(t, "up 0")
		if !c.Send(membership.FirstWitness, []byte("hallo")) || c.Send(membership.FirstWitness+1, []byte("x")) {
			t.Error("it is sent to the witness of that id alone")
		}
		n.want(t, "re: hallo")
		h := <-f.said
		if h.From != 1 || h.To != membership.FirstWitness || h.Cluster != "tank" || h.ClusterID != "c1" || h.Enrols() {
			t.Errorf("%+v", h)
		}
		f.mu.Lock()
		f.conns[0].Close(errors.New("a fault"))
		f.mu.Unlock()
		n.want(t, "down")
		n.want(t, "up 0")
		other := f.target()
		other.ID++
		c.Set(other)
		n.want(t, "down: the witness was changed")
		n.want(t, "up 1")
		c.Set(nil)
		n.want(t, "down: the witness was changed")
		wrong := f.target()
		wrong.Fingerprint = strings.Repeat("0", 64)
		c.Set(wrong)
		n.want(t, "is not the witness's")
		malformed := *wrong // the client has the other one
		malformed.Fingerprint = "?"
		c.Set(&malformed)
		n.want(t, "fingerprint")
		f.refuse = Refusal{"not you"}
		c.Set(f.target())
		n.want(t, "refused by the witness: not you")
	})
}

func TestEnrolSaysTheSecretToThePinnedOneAlone(t *testing.T) {
	f := newFar(t)
	cl := clusterOf(newSecret(t), 1)
	tok := NewToken(f.addr, f.id.Fingerprint, time.Now().Add(time.Hour))
	name, err := Enrol(t.Context(), tok, cl)
	if err != nil || name != "eye" {
		t.Fatal(name, err)
	}
	if h := <-f.said; h.Digest() != tok.Digest() || !h.Enrols() || h.To != 0 {
		t.Errorf("%+v", h)
	}
	tok.Fingerprint = sha256.Sum256(nil)
	if _, err := Enrol(t.Context(), tok, cl); !errors.Is(err, ErrCertificate) {
		t.Error(err)
	}
	if h := <-f.said; h.Secret != nil {
		t.Error("an impostor was told the secret")
	}
	f.refuse = Refusal{"used"}
	tok.Fingerprint = f.id.Fingerprint
	if _, err := Enrol(t.Context(), tok, cl); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "used") {
		t.Error(err)
	}
}

// What comes of strangers is bounded: they do not get past TLS without a certificate, say
// more than a hello, or take longer than the handshake.
func TestStrangers(t *testing.T) {
	f := newFar(t)
	raw, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	_ = raw.SetReadDeadline(time.Now().Add(Handshake))
	for {
		if _, err = raw.Read(make([]byte, 100)); err != nil {
			break
		}
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		t.Error("plain text is waited for")
	}
	_ = raw.Close()
	plain, err := tls.Dial("tcp", f.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}})
	if err == nil { // TLS 1.3 says no with the first read
		_, err = plain.Read(make([]byte, 1))
		_ = plain.Close()
	}
	if err == nil {
		t.Error("a client without a certificate is let in")
	}
}

func TestQueueIsBounded(t *testing.T) {
	a, b := net.Pipe()
	defer func() { _, _ = a.Close(), b.Close() }()
	c := newConn(a, tls.Client(a, &tls.Config{InsecureSkipVerify: true}))
	n := 0
	for c.Send(make([]byte, 1<<20)) {
		n++
	}
	if n == 0 || n > maxQueue>>20 {
		t.Errorf("%d MiB are queued", n)
	}
	if c.Send(make([]byte, membership.MaxMessage+1)) {
		t.Error("a message that is too long")
	}
	c.Close(ErrStopped)
	if c.Send(nil) {
		t.Error("sent after the end")
	}
}
