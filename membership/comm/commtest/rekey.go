package commtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/secret"
)

// rekeyed is a Comm whose secret can change while it runs.
type rekeyed interface {
	SetSecret(secret.Secret) error
}

// Epochs returns a secret of each order of some epochs: the same epoch is the same key.
func Epochs(t *testing.T) func(epochs ...int) secret.Secret {
	t.Helper()
	lines := map[int]string{}
	return func(epochs ...int) secret.Secret {
		t.Helper()
		var text strings.Builder
		for _, e := range epochs {
			if lines[e] == "" {
				var b bytes.Buffer
				if err := secret.Generate(&b); err != nil {
					t.Fatal(err)
				}
				lines[e] = strings.Replace(b.String(), " 1 ", fmt.Sprintf(" %d ", e), 1)
			}
			text.WriteString(lines[e])
		}
		s, err := secret.Parse([]byte(text.String()))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func rekey(t *testing.T, d *Daemon, s secret.Secret) {
	t.Helper()
	if err := d.Comm.(rekeyed).SetSecret(s); err != nil {
		t.Fatal(err)
	}
}

// rounds are a rotation, as each node has it in its turn.
var rounds = [][]int{{1, 2}, {2, 1}, {2}}

// testRekey: the secret changes, node by node, while messages flow both ways. The
// connection stands and loses none, although its own key goes; a later one is made
// by the new key, and who has only the old one is refused.
func testRekey(t *testing.T, p Provider) {
	nodes, keys := p.Nodes(t, 3), Epochs(t)
	refused := make(chan error, 64)
	tell := func(err error) {
		select {
		case refused <- err:
		default:
		}
	}
	a := Start(t, p, Spec{Self: 1, Nodes: nodes, Secret: keys(1), Refused: tell})
	if _, ok := a.Comm.(rekeyed); !ok {
		t.Skip("its secret does not change at run time")
	}
	b := Start(t, p, Spec{Self: 2, Nodes: nodes, Secret: keys(1)})
	a.Await(Connected, 2, 1)
	b.Await(Connected, 1, 1)
	sent, stop := traffic(t, a, b)
	for _, r := range rounds {
		for _, d := range []*Daemon{a, b} {
			rekey(t, d, keys(r...))
			time.Sleep(20 * time.Millisecond) // some traffic between two changes
		}
	}
	stop()
	for from, d := range map[membership.NodeID]*Daemon{2: a, 1: b} {
		d.Await(Message, from, sent[from])
		for i, m := range messages(d, from) {
			if got := binary.BigEndian.Uint64(m.Data); got != uint64(i) {
				t.Fatalf("message %d of node %d is %d", i, from, got)
			}
		}
	}
	if n := count(a, Disconnected) + count(b, Disconnected); n != 0 {
		t.Fatalf("%d connections broke", n)
	}
	c := Start(t, p, Spec{Self: 3, Nodes: nodes, Secret: keys(2, 1)})
	c.Await(Connected, 1, 1) // by the new one
	c.Stop()
	Start(t, p, Spec{Self: 3, Nodes: nodes, Secret: keys(1)})
	want := p.Refusals["wrong key"]
	for deadline := time.After(Patience); ; {
		select {
		case err := <-refused:
			if want == nil || strings.Contains(err.Error(), "authority") {
				return
			}
		case <-deadline:
			t.Fatal("who has only the dropped key is not refused")
		}
	}
}

func count(d *Daemon, k Kind) (n int) {
	for _, c := range d.Calls() {
		if c.Kind == k {
			n++
		}
	}
	return n
}

// traffic has two daemons send numbered messages to each other until it is stopped;
// then sent says how many were taken, by sender.
func traffic(t *testing.T, a, b *Daemon) (sent map[membership.NodeID]int, stop func()) {
	t.Helper()
	sent, done := map[membership.NodeID]int{}, make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	flow := func(d *Daemon, self, to membership.NodeID) {
		n := 0
		for {
			select {
			case <-done:
				mu.Lock()
				defer mu.Unlock()
				sent[self] = n
				return
			case <-time.After(200 * time.Microsecond):
			}
			if d.Send(to, numbered(uint64(n), n%3000)) {
				n++
			}
		}
	}
	wg.Go(func() { flow(a, 1, 2) })
	wg.Go(func() { flow(b, 2, 1) })
	return sent, func() { close(done); wg.Wait() }
}

// testRekeyed: nodes come and go while the others change their secrets, each at its own
// time. As long as every secret has the key that the others send with, whoever comes is
// connected.
func testRekeyed(t *testing.T, p Provider) {
	nodes, keys := p.Nodes(t, 3), Epochs(t)
	a := Start(t, p, Spec{Self: 1, Nodes: nodes, Secret: keys(1)})
	if _, ok := a.Comm.(rekeyed); !ok {
		t.Skip("its secret does not change at run time")
	}
	b := Start(t, p, Spec{Self: 3, Nodes: nodes, Secret: keys(1)})
	done := make(chan struct{})
	var wg sync.WaitGroup
	orders := []secret.Secret{keys(1, 2), keys(2, 1), keys(1, 2, 3), keys(3, 2, 1), keys(2, 1, 3)}
	for k, d := range []*Daemon{a, b} {
		wg.Go(func() {
			for i := k; ; i++ {
				select {
				case <-done:
					return
				case <-time.After(time.Millisecond):
				}
				if err := d.Comm.(rekeyed).SetSecret(orders[i%len(orders)]); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for run := 1; run <= 5; run++ {
		c := Start(t, p, Spec{Self: 2, Nodes: nodes, Secret: keys(1, 2, 3), Instance: uint64(run)})
		c.Await(Connected, 1, 1)
		c.Await(Connected, 3, 1)
		c.Stop()
		a.Await(Disconnected, 2, run)
	}
	close(done)
	wg.Wait()
	if err := a.Comm.(rekeyed).SetSecret(secret.Secret{}); err == nil {
		t.Error("a secret without a key was taken")
	}
}
