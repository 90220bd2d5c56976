package witness

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/secret"
)

func newSecret(t testing.TB) secret.Secret {
	t.Helper()
	s, err := secret.New()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func clusterOf(s secret.Secret, self membership.NodeID) Cluster {
	return Cluster{Name: "tank", ID: "c1", Self: self, Nodes: []membership.NodeID{1, 2}, Interval: 40 * time.Millisecond, DeadAfter: 200 * time.Millisecond,
		Secret: func() secret.Secret { return s }}
}

func helloOf(t testing.TB) Hello {
	t.Helper()
	h, _, err := clusterOf(newSecret(t), 1).hello()
	if err != nil {
		t.Fatal(err)
	}
	h.To = membership.FirstWitness
	return h
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHelloThatIsRefused(t *testing.T) {
	if _, err := ParseHello(encode(t, helloOf(t))); err != nil {
		t.Fatal(err)
	}
	enrol := helloOf(t)
	enrol.To, enrol.Secret = 0, make([]byte, secretSize)
	if h, err := ParseHello(encode(t, enrol)); err != nil || !h.Enrols() {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Hello){
		"no cluster":            func(h *Hello) { h.Cluster = "" },
		"a path as the name":    func(h *Hello) { h.Cluster = "../x" },
		"a path as the id":      func(h *Hello) { h.ClusterID = "a/b" },
		"a hidden id":           func(h *Hello) { h.ClusterID = ".." },
		"a long id":             func(h *Hello) { h.ClusterID = strings.Repeat("a", 65) },
		"no node":               func(h *Hello) { h.From = 0 },
		"a witness as the node": func(h *Hello) { h.From = membership.FirstWitness },
		"a node as the witness": func(h *Hello) { h.To = 7 },
		"no witness":            func(h *Hello) { h.To = 0 },
		"both":                  func(h *Hello) { h.Secret = make([]byte, secretSize) },
		"half a secret":         func(h *Hello) { h.To, h.Secret = 0, make([]byte, 5) },
		"no authority":          func(h *Hello) { h.Authorities = nil },
		"many authorities": func(h *Hello) {
			for len(h.Authorities) <= maxAuthorities {
				h.Authorities = append(h.Authorities, h.Authorities[0])
			}
		},
		"a large authority":  func(h *Hello) { h.Authorities = [][]byte{make([]byte, maxAuthority+1)} },
		"a broken authority": func(h *Hello) { h.Authorities = [][]byte{{1, 2, 3}} },
		"no nodes":           func(h *Hello) { h.Nodes = nil },
		"a node twice":       func(h *Hello) { h.Nodes = []membership.NodeID{1, 1} },
		"a witness among them": func(h *Hello) {
			h.Nodes = []membership.NodeID{1, membership.FirstWitness}
		},
		"many nodes": func(h *Hello) {
			for i := range membership.NodeID(maxNodes + 1) {
				h.Nodes = append(h.Nodes, i+10)
			}
		},
		"no interval":    func(h *Hello) { h.Interval = 0 },
		"a long time":    func(h *Hello) { h.DeadAfter = time.Hour },
		"times reversed": func(h *Hello) { h.DeadAfter = h.Interval - 1 },
	} {
		h := helloOf(t)
		spoil(&h)
		if _, err := ParseHello(encode(t, h)); !errors.Is(err, ErrGarbage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	old := helloOf(t)
	old.Protocol = 2
	if _, err := ParseHello(encode(t, old)); !errors.Is(err, ErrRefused) {
		t.Errorf("another protocol: %v", err)
	}
}

// A leaf is believed as the node and cluster that it names, of the authority that
// signed it, and as no other.
func TestSigned(t *testing.T) {
	ours, theirs := newSecret(t), newSecret(t)
	leafOf := func(s secret.Secret, cluster string, id membership.NodeID) error {
		leaf, err := s.Leaf(NodeURI(cluster, id))
		if err != nil {
			t.Fatal(err)
		}
		auth, err := ours.Authorities()
		if err != nil {
			t.Fatal(err)
		}
		return Signed(parsed(t, leaf.Certificate[0]), auth, "tank", 1)
	}
	if err := leafOf(ours, "tank", 1); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another key": leafOf(theirs, "tank", 1), "another cluster": leafOf(ours, "pond", 1), "another node": leafOf(ours, "tank", 2),
	} {
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFrames(t *testing.T) {
	b := appendFrame(appendFrame(nil, frameHello, []byte("a")), frameMessage, nil)
	r := bufio.NewReader(bytes.NewReader(b))
	for _, want := range []struct {
		kind byte
		body string
	}{{frameHello, "a"}, {frameMessage, ""}} {
		if kind, body, err := readFrame(r, 10); err != nil || kind != want.kind || string(body) != want.body {
			t.Fatalf("%d %q, %v", kind, body, err)
		}
	}
	if _, _, err := readFrame(r, 10); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"empty":     {[]byte{0, 0, 0, 0, 1}, ErrGarbage},
		"too long":  {[]byte{0, 0, 0, 13, 1}, ErrGarbage},
		"huge":      {[]byte{255, 255, 255, 255, 1}, ErrGarbage},
		"cut short": {[]byte{0, 0, 0, 5, 1, 2}, io.ErrUnexpectedEOF},
		"half":      {[]byte{0, 0}, io.ErrUnexpectedEOF},
	} {
		if _, _, err := readFrame(bufio.NewReader(bytes.NewReader(c.bytes)), 10); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnswers(t *testing.T) {
	if r, err := parseAnswer(frameReady, encode(t, Ready{Protocol: 1, Name: "eye"})); err != nil || r.Name != "eye" {
		t.Error(r, err)
	}
	_, err := parseAnswer(frameRefuse, encode(t, Refusal{"no\x1b[2J" + strings.Repeat("x", 9999)}))
	if !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 700 {
		t.Error(err)
	}
	for kind, body := range map[byte]string{frameReady: `{"name":"a b"}`, frameRefuse: `[`, frameMessage: ``, 9: `{}`} {
		if _, err := parseAnswer(kind, []byte(body)); !errors.Is(err, ErrGarbage) {
			t.Errorf("%d %s: %v", kind, body, err)
		}
	}
}

func FuzzParseHello(f *testing.F) {
	f.Add(encode(f, helloOf(f)))
	f.Add([]byte(`{"protocol":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHello(b)
		if err != nil {
			return
		}
		if strings.ContainsAny(h.ClusterID+h.Cluster, "/\\\x00") || h.From.IsWitness() || len(h.Authorities) == 0 {
			t.Errorf("accepted: %+v", h)
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(appendFrame(nil, frameHello, []byte("body")))
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, body, err := readFrame(bufio.NewReader(bytes.NewReader(b)), 1000)
		if err == nil && (len(body) > 1000 || !bytes.HasPrefix(b, appendFrame(nil, kind, body))) {
			t.Errorf("%d %q of %q", kind, body, b)
		}
		_, _ = parseAnswer(kind, body)
	})
}
