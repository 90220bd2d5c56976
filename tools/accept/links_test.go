package accept

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/cluster"
)

// restless is what must not be told when a link dies.
var restless = append([]membership.Kind{membership.KindView, membership.KindConvicted, membership.KindStopped}, evil...)

// resend is for how long TCP may still wait when the DLM's route has left a dead link: it
// sends again after twice as long each time.
const resend = 8 * time.Second

// TestLinks pulls one of two links, then the other, under a mounted file system whose
// locks go to and fro. The DLM has an address that is on neither.
func TestLinks(t *testing.T) {
	const dead = 2 * time.Second
	w := newMounted(t, cluster.Options{Nodes: 3, Links: 2, Stable: true, Profile: "safe", DeadAfter: dead})
	w.pulled(dead, w.pull, func(int) { w.must(w.Lab.Heal()) })
}

// pulled: one link is pulled, then the other; no view changes, and locks go to and fro.
func (w *world) pulled(dead time.Duration, pull func(link int) time.Time, heal func(link int)) {
	w.t.Helper()
	wr := w.write("links", 5, w.Nodes()...)
	defer wr.stop()
	toAndFro := w.writeShared("shared", 5, w.Nodes()...)
	defer toAndFro.stop()
	from := time.Now()
	w.via(0, -1)

	at := pull(0)
	w.moved(at, 1)
	w.via(1, 0)
	w.keptOn(toAndFro, at, w.Stretch(dead)+resend)
	at = time.Now()
	heal(0)
	w.told(at, "link 0 ") // carries again; the DLM stays where it is, for now

	at = pull(1)
	w.moved(at, 0)
	w.via(0, 1)
	w.keptOn(toAndFro, at, w.Stretch(dead)+resend)
	heal(1)

	toAndFro.stop()
	wr.stop()
	w.none(from, restless...)
	for _, i := range w.Nodes() {
		wr.verify(i, w.Nodes()...)
	}
	n, what := w.count(from, membership.KindLink, membership.KindLeader, membership.KindSuspect)
	w.t.Logf("%d events:%s", n, what)
}

// moved waits until the DLM of each node is on a link to each other one.
func (w *world) moved(after time.Time, link int) {
	w.t.Helper()
	w.told(after, fmt.Sprintf("the DLM is on link %d ", link))
}

// told waits until each node has told that of a link to each other one.
func (w *world) told(after time.Time, words string) {
	w.t.Helper()
	w.within(30*time.Second, words, func(ctx context.Context) error {
		for _, i := range w.Nodes() {
			for _, k := range w.Others(i) {
				_, err := w.Events.Wait(ctx, after, func(e cluster.Event) bool {
					return e.Node == i && e.Kind == membership.KindLink && int(e.Subject) == k && strings.HasPrefix(e.Text, words)
				})
				if err != nil {
					return fmt.Errorf("node%d of node%d: %w", i, k, err)
				}
			}
		}
		return nil
	})
}

// pull loses all that goes over a link, without a word to anybody.
func (w *world) pull(link int) (at time.Time) {
	w.t.Helper()
	at = time.Now()
	for _, i := range w.Nodes() {
		for _, k := range w.Nodes()[i:] {
			w.must(w.Lab.CutLink(link, i, k))
		}
	}
	return at
}

// via waits until the DLM is on a link, on all nodes, and the daemons' connections on none
// that is dead (-1: none is).
func (w *world) via(dlm, dead int) {
	w.t.Helper()
	w.within(30*time.Second, fmt.Sprintf("the DLM on link %d, link %d dead", dlm, dead), func(ctx context.Context) error {
		return w.onLinks(ctx, dlm, dead)
	})
}

func (w *world) onLinks(ctx context.Context, dlm, dead int) error {
	return cluster.Until(ctx, time.Second, func() error {
		for _, i := range w.Nodes() {
			r, err := w.links(ctx, i)
			if err != nil {
				return err
			}
			if r.Stable == nil || r.Stable.Error != "" || r.Stable.Interface != "quorate-dlm" {
				return fmt.Errorf("node%d: the stable address: %+v", i, r.Stable)
			}
			for _, l := range r.Links {
				if l.DLM != (l.Link == dlm) || l.Stream && l.Link == dead || dead >= 0 && l.Link != dead && !l.Stream {
					return fmt.Errorf("node%d: %+v", i, l)
				}
			}
			for _, c := range r.DLM {
				if !strings.HasPrefix(c.Local, "10.99.0.") || !strings.HasPrefix(c.Remote, "10.99.0.") {
					return fmt.Errorf("node%d: a connection of the DLM from %s to %s", i, c.Local, c.Remote)
				}
			}
			if len(r.DLM) < len(w.Nodes())-1 {
				return fmt.Errorf("node%d: %d connections of the DLM", i, len(r.DLM))
			}
		}
		return nil
	})
}

// links is what `quorate links` says on a node. Its exit status is 1 while a link is silent.
func (w *world) links(ctx context.Context, i int) (*control.LinksReport, error) {
	res, err := w.Lab.Node(i).Exec(ctx, "quorate -o json links")
	if err != nil {
		return nil, err
	}
	var r control.LinksReport
	if err := json.Unmarshal([]byte(res.Stdout), &r); err != nil {
		return nil, fmt.Errorf("node%d: quorate links: %w: %s%s", i, err, res.Stdout, res.Stderr)
	}
	return &r, nil
}

// keptOn: every node has appended since, and no gap between its appends is longer than limit.
func (w *world) keptOn(s *writers, at time.Time, limit time.Duration) {
	w.t.Helper()
	now := time.Now()
	for _, i := range w.Nodes() {
		s.progress(i, now)
		longest := s.gap(i, at, now)
		w.t.Logf("node%d: the longest gap is %v", i, longest.Round(time.Millisecond))
		if longest > limit {
			w.t.Errorf("node%d stood still for %v, at most %v", i, longest, limit)
		}
	}
}

// gap is the longest time of a node without an append that began before an end and after
// a time; the time itself counts as an append. There has to be one after the end.
func (s *writers) gap(i int, from, to time.Time) (longest time.Duration) {
	last := from
	for _, e := range s.w.Events.All() {
		if s.appended(i, e) && e.At.After(from) && last.Before(to) {
			longest, last = max(longest, e.At.Sub(last)), e.At
		}
	}
	return longest
}
