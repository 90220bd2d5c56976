package witness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/secret"
	wire "github.com/quorate/quorate/membership/witness"
	"github.com/quorate/quorate/tools/freeport"
)

// stand is a witness under test.
type stand struct {
	t    *testing.T
	dir  string
	s    *Server
	addr string
	stop func()
}

func newStand(t *testing.T) *stand {
	t.Helper()
	y := &stand{t: t, dir: t.TempDir()}
	y.start()
	t.Cleanup(func() { y.stop() })
	return y
}

func (y *stand) start() {
	y.t.Helper()
	y.stop = func() {}
	s, err := open(Options{State: y.dir, Name: "eye", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		y.t.Fatal(err)
	}
	if y.addr == "" {
		y.addr = fmt.Sprintf("127.0.0.1:%d", freeport.On(y.t))
	}
	l, err := net.Listen("tcp", y.addr)
	if err != nil {
		y.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, l) }()
	y.s, y.addr = s, l.Addr().String()
	y.stop = func() { cancel(); <-done }
}

func (y *stand) again() { y.t.Helper(); y.stop(); y.start() }

func (y *stand) token(valid time.Duration) wire.Token {
	y.t.Helper()
	t, err := MakeToken(y.dir, y.addr, valid)
	if err != nil {
		y.t.Fatal(err)
	}
	return t
}

func (y *stand) enrol(c wire.Cluster, t wire.Token) error {
	_, err := wire.Enrol(y.t.Context(), t, c)
	return err
}

func keys(t *testing.T, epochs ...uint32) (secret.Secret, []string) {
	t.Helper()
	var lines []string
	for _, e := range epochs {
		var b strings.Builder
		if err := secret.Generate(&b); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Replace(b.String(), " 1 ", fmt.Sprintf(" %d ", e), 1))
	}
	return secretOf(t, lines...), lines
}

func secretOf(t *testing.T, lines ...string) secret.Secret {
	t.Helper()
	s, err := secret.Parse([]byte(strings.Join(lines, "")))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tank(t *testing.T, id string, s secret.Secret) wire.Cluster {
	return wire.Cluster{Name: "tank", ID: id, Self: 1, Nodes: []membership.NodeID{1, 2}, Interval: 40 * time.Millisecond, DeadAfter: 200 * time.Millisecond,
		Secret: func() secret.Secret { return s }}
}

// calls takes what a client reports.
type calls struct{ up, down chan error }

func (c calls) Connected(membership.NodeID)       { c.up <- nil }
func (c calls) Message(membership.NodeID, []byte) {}
func (c calls) Disconnected(_ membership.NodeID, err error) {
	select {
	case c.down <- err:
	default:
	}
}

// connect is the outcome of a node's first attempt. The connection is ended.
func (y *stand) connect(c wire.Cluster, id membership.NodeID) error {
	y.t.Helper()
	h := calls{make(chan error, 100), make(chan error, 100)}
	k := wire.NewClient(c, h, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	defer func() { cancel(); <-done }()
	k.Set(&wire.Target{ID: id, Addr: y.addr, Fingerprint: fmt.Sprintf("%x", y.s.id.Fingerprint), ClusterID: c.ID})
	select {
	case err := <-h.up:
		return err
	case err := <-h.down:
		return err
	case <-time.After(10 * time.Second):
		return errors.New("nothing happened")
	}
}

func (y *stand) refused(err error, words string) {
	y.t.Helper()
	if !errors.Is(err, wire.ErrRefused) || !strings.Contains(err.Error(), words) {
		y.t.Fatalf("%v, not %q", err, words)
	}
}

const first = membership.FirstWitness

func TestATokenIsGoodOnce(t *testing.T) {
	y := newStand(t)
	s, _ := keys(t, 1)
	other, _ := keys(t, 1)
	tok := y.token(time.Hour)
	y.refused(y.connect(tank(t, "c1", s), first), "does not know the cluster")
	if err := y.enrol(tank(t, "c1", s), tok); err != nil {
		t.Fatal(err)
	}
	if err := y.enrol(tank(t, "c1", s), tok); err != nil {
		t.Errorf("the same again, whose answer was lost: %v", err)
	}
	y.refused(y.enrol(tank(t, "c2", s), tok), "used already")
	y.refused(y.enrol(tank(t, "c1", other), tok), "another name or key")
	y.again()
	y.refused(y.enrol(tank(t, "c2", s), tok), "used already")
	if err := y.connect(tank(t, "c1", s), first); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(y.dir, "tokens")); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestATokenEnds(t *testing.T) {
	y := newStand(t)
	s, _ := keys(t, 1)
	tok := y.token(time.Hour)
	y.s.now = func() time.Time { return time.Now().Add(time.Hour + time.Second) }
	y.refused(y.enrol(tank(t, "c1", s), tok), "was good until")
	y.refused(y.enrol(tank(t, "c1", s), tok), "used already")
	y.refused(y.enrol(tank(t, "c1", s), wire.NewToken(y.addr, y.s.id.Fingerprint, time.Now().Add(time.Hour))), "another witness")
	for _, bad := range []time.Duration{0, time.Second, 31 * 24 * time.Hour} {
		if _, err := MakeToken(y.dir, y.addr, bad); err == nil {
			t.Errorf("a token for %v", bad)
		}
	}
	for range maxTokens {
		y.token(time.Hour)
	}
	if _, err := MakeToken(y.dir, y.addr, time.Hour); err == nil || !strings.Contains(err.Error(), "wait to be used") {
		t.Error(err)
	}
}

// TestClustersApart: neither name, id nor a key of one lets a node into another.
func TestClustersApart(t *testing.T) {
	y := newStand(t)
	a, _ := keys(t, 1)
	b, _ := keys(t, 1)
	for id, s := range map[string]secret.Secret{"ca": a, "cb": b} {
		if err := y.enrol(tank(t, id, s), y.token(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	for id, s := range map[string]secret.Secret{"ca": a, "cb": b} {
		if err := y.connect(tank(t, id, s), first); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	y.refused(y.connect(tank(t, "ca", b), first), "not its key")
	y.refused(y.connect(tank(t, "cb", a), first), "not its key")
	named := tank(t, "ca", a)
	named.Name = "pond"
	y.refused(y.connect(named, first), "not its key")
	for id, s := range map[string]secret.Secret{"ca": a, "cb": b} {
		e := y.s.clusters[id].e
		auth, err := s.Authorities()
		if err != nil || len(e.Authorities) != 1 || string(e.Authorities[0]) != string(auth[0]) {
			t.Errorf("%s: its authorities were changed", id)
		}
	}
	all, err := List(y.dir)
	if err != nil || len(all) != 2 || !all[0].Joined || all[0].ID != "ca" {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestKeysRotate: a new key comes on a connection that the old one vouches for, the old one
// goes when a node no longer has it, and is believed no more.
func TestKeysRotate(t *testing.T) {
	y := newStand(t)
	_, lines := keys(t, 1, 2)
	old, both, next := secretOf(t, lines[0]), secretOf(t, lines...), secretOf(t, lines[1])
	swapped := secretOf(t, lines[1], lines[0])
	if err := y.enrol(tank(t, "c1", old), y.token(time.Hour)); err != nil {
		t.Fatal(err)
	}
	y.refused(y.connect(tank(t, "c1", next), first), "not its key")
	for _, s := range []secret.Secret{old, both, swapped, next} {
		if err := y.connect(tank(t, "c1", s), first); err != nil {
			t.Fatal(err)
		}
	}
	y.refused(y.connect(tank(t, "c1", old), first), "not its key")
	y.again()
	y.refused(y.connect(tank(t, "c1", old), first), "not its key")
	if err := y.connect(tank(t, "c1", next), first); err != nil {
		t.Fatal(err)
	}
}

// TestAnEarlierIDIsRefused: the witness was removed and added again.
func TestAnEarlierIDIsRefused(t *testing.T) {
	y := newStand(t)
	s, _ := keys(t, 1)
	if err := y.enrol(tank(t, "c1", s), y.token(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := y.connect(tank(t, "c1", s), first); err != nil {
		t.Fatal(err)
	}
	y.votes("c1", "votes-0")
	if err := y.enrol(tank(t, "c1", s), y.token(time.Hour)); err != nil {
		t.Fatal(err)
	}
	two := tank(t, "c1", s)
	two.Self = 2
	if err := y.connect(two, first+1); err != nil {
		t.Fatal(err)
	}
	y.votes("c1", "votes-1")
	three := tank(t, "c1", s)
	three.Self, three.Nodes = 3, []membership.NodeID{1, 2, 3}
	y.refused(y.connect(three, first), "added again")
}

// votes waits until the logs of a cluster are these.
func (y *stand) votes(cluster string, want ...string) {
	y.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		all, err := filepath.Glob(filepath.Join(y.dir, "clusters", cluster, "votes-*"))
		var names []string
		for _, p := range all {
			names = append(names, filepath.Base(p))
		}
		if fmt.Sprint(names) == fmt.Sprint(want) {
			return
		}
		if time.Now().After(deadline) {
			y.t.Fatalf("%v, %v, not %v", names, err, want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestNoMoreThanSoManyClusters(t *testing.T) {
	y := newStand(t)
	s, _ := keys(t, 1)
	for i := range MaxClusters {
		if err := y.enrol(tank(t, fmt.Sprint("c", i), s), y.token(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	tok := y.token(time.Hour)
	y.refused(y.enrol(tank(t, "one-more", s), tok), "clusters already")
	y.stop()
	if err := Forget(y.dir, "c7"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"", "c7", "..", "../x", "."} {
		if err := Forget(y.dir, id); err == nil {
			t.Errorf("%q is forgotten", id)
		}
	}
	y.start()
	fresh := wire.NewToken(y.addr, tok.Fingerprint, tok.Expires)
	if err := (state{y.dir}).addToken(fresh, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := y.enrol(tank(t, "one-more", s), fresh); err != nil {
		t.Error(err)
	}
}

// TestWhatIsKeptMayBeSpoiled: one bad enrolment keeps no other away, and a second process
// on the same directory ends.
func TestWhatIsKeptMayBeSpoiled(t *testing.T) {
	y := newStand(t)
	s, _ := keys(t, 1)
	for _, id := range []string{"good", "bad"} {
		if err := y.enrol(tank(t, id, s), y.token(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(y.dir, "clusters", "bad", "enrolment.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := List(y.dir); len(all) != 1 || err == nil || !strings.Contains(err.Error(), "forget bad") {
		t.Errorf("%+v, %v", all, err)
	}
	y.again()
	if err := y.connect(tank(t, "good", s), first); err != nil {
		t.Error(err)
	}
	lock, err := y.s.state.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	if err := Run(t.Context(), Options{State: y.dir, Name: "eye", Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "another quorated --witness") {
		t.Error(err)
	}
}

func TestAdvertise(t *testing.T) {
	st, err := openState(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{"": host + ":21062", "w.example": "w.example:21062", "10.0.0.9:99": "10.0.0.9:99", "[fe::1]:5": "[fe::1]:5"} {
		if got, err := complete(st, in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{":5", "a:0", "a:x", "a:70000", "a b", "http://a:5", "a\n:5"} {
		if got, err := complete(st, in); err == nil {
			t.Errorf("%q is %q", in, got)
		}
	}
}

func FuzzParseEnrolment(f *testing.F) {
	f.Add([]byte(`{"cluster":"tank","cluster_id":"c1","nodes":[1],"interval":1,"dead_after":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := parseEnrolment(b); err == nil && (len(e.Nodes) == 0 || e.Self != 0 && !e.Self.IsWitness()) {
			t.Errorf("%+v", e)
		}
	})
}

// TestATokenIsNoRightToAnothersPlace: who was given a token for a cluster of its own cannot
// take the place of one that is there, and does not use the token up by trying.
func TestATokenIsNoRightToAnothersPlace(t *testing.T) {
	y := newStand(t)
	ours, _ := keys(t, 1)
	theirs, _ := keys(t, 1)
	if err := y.enrol(tank(t, "c1", ours), y.token(time.Hour)); err != nil {
		t.Fatal(err)
	}
	tok := y.token(time.Hour)
	y.refused(y.enrol(tank(t, "c1", theirs), tok), "another name or key")
	named := tank(t, "c1", ours)
	named.Name = "pond"
	y.refused(y.enrol(named, tok), "another name or key")
	if err := y.connect(tank(t, "c1", ours), first); err != nil {
		t.Errorf("the cluster that was there: %v", err)
	}
	if err := y.enrol(tank(t, "c2", theirs), tok); err != nil {
		t.Errorf("the token for a cluster of its own: %v", err)
	}
}

func TestGate(t *testing.T) {
	g := newGate()
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }
	var leaves []func()
	for range maxPerAddr {
		leave, ok := g.enter(addr(1))
		if !ok {
			t.Fatal("no place")
		}
		leaves = append(leaves, leave)
	}
	if _, ok := g.enter(addr(1)); ok {
		t.Error("one address has more than it may")
	}
	n := 0
	for i := 2; i < 2000; i++ {
		if _, ok := g.enter(addr(i)); ok {
			n++
		}
	}
	if n != maxStrangers-maxPerAddr {
		t.Errorf("%d more strangers", n)
	}
	g.know(addr(9000))
	leave, ok := g.enter(addr(9000))
	if !ok {
		t.Error("strangers keep a node out")
	}
	leave()
	for _, l := range leaves {
		l()
	}
	if _, ok := g.enter(addr(3000)); !ok || len(g.pending) != maxStrangers-maxPerAddr+1 {
		t.Errorf("places do not come back: %d", len(g.pending))
	}
	for i := range 2 * maxKnown {
		g.know(addr(i))
	}
	if len(g.known) > maxKnown {
		t.Errorf("%d addresses", len(g.known))
	}
	now := time.Unix(1e9, 0)
	if !g.complain(now) || g.complain(now.Add(time.Second)) || !g.complain(now.Add(complainNext)) {
		t.Error("complaints")
	}
}

func TestANameThatNoClusterTakes(t *testing.T) {
	for _, name := range []string{"", "-x", "a b", strings.Repeat("a", 64)} {
		err := Run(t.Context(), Options{State: t.TempDir(), Name: name, Log: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), "say another --name") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
