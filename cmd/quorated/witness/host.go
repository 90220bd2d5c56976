package witness

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/cmd/quorated/witness/voter"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/group/raft"
	wire "github.com/quorate/quorate/membership/witness"
)

const (
	inputQueue = 1024
	// reopen is how long a cluster rests after its store could not be opened or written.
	reopen  = 5 * time.Second
	maxTick = time.Second
	// maxWaiting bounds the messages of one cluster that wait, in bytes.
	maxWaiting = 2 * membership.MaxMessage
	// maxNodes is how many members a group has at most.
	maxNodes = 256
	votesDir = "votes-" // and the id, counted from 0
)

// host is one cluster at this witness: its enrolment, connections, machine and store.
type host struct {
	s   *Server
	log *slog.Logger

	inputs chan input
	room   *semaphore.Weighted // bytes of messages that wait
	ended  chan struct{}       // closed when the loop has

	mu    sync.Mutex
	e     enrolment
	conns map[membership.NodeID]*wire.Conn
	dirty bool // the enrolment is another than the machine was made from

	// of the loop alone
	v       *voter.Voter
	store   *raft.Store
	made    enrolment // what the machine was made from
	up      map[membership.NodeID]*wire.Conn
	retryAt time.Time
	broken  bool // an invariant did not hold: it stays ended
}

// input is for the machine; conn is whose it is.
type input struct {
	in   node.Input
	conn *wire.Conn
}

func newHost(s *Server, e enrolment) *host {
	return &host{s: s, e: e, log: s.log.With("cluster", e.Cluster), inputs: make(chan input, inputQueue), room: semaphore.NewWeighted(maxWaiting), ended: make(chan struct{}),
		conns: map[membership.NodeID]*wire.Conn{}, up: map[membership.NodeID]*wire.Conn{}}
}

// cameWith says whether the cluster was enrolled with a token, as what it says it is.
func (h *host) cameWith(digest string, hello wire.Hello) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.e.Token == digest && h.e.Cluster == hello.Cluster && slices.EqualFunc(h.e.Authorities, hello.Authorities, slices.Equal)
}

// knows says whether a node is of the cluster by the keys that were known before.
func (h *host) knows(hello wire.Hello, leaf *x509.Certificate) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return hello.Cluster == h.e.Cluster && wire.Signed(leaf, h.e.Authorities, h.e.Cluster, hello.From) == nil
}

// renew is an enrolment of a cluster that is known, with another token: its keys may all
// be new ones.
func (h *host) renew(e enrolment) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.Self = h.e.Self
	return h.keep(e)
}

// keep saves a changed enrolment; h.mu is held.
func (h *host) keep(e enrolment) error {
	if err := h.s.state.save(e); err != nil {
		h.log.Error("the enrolment cannot be kept", "err", err)
		return wire.Refusal{Text: "the witness cannot write its state: see its log"}
	}
	h.e, h.dirty = e, true
	return nil
}

// admit says whether a node may connect, and takes over what it says of its cluster.
func (h *host) admit(hello wire.Hello, leaf *x509.Certificate) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if hello.Cluster != h.e.Cluster || wire.Signed(leaf, h.e.Authorities, h.e.Cluster, hello.From) != nil {
		return stranger
	}
	if hello.To < h.e.Self {
		return wire.Refusal{Text: "this witness was removed and added again since: the node has not been told yet"}
	}
	e := h.e
	e.Self, e.Interval, e.DeadAfter = hello.To, hello.Interval, hello.DeadAfter
	e.Nodes = slices.Clone(hello.Nodes)
	for id := range h.conns {
		e.Nodes = append(e.Nodes, id)
	}
	e.Nodes = append(e.Nodes, hello.From)
	slices.Sort(e.Nodes)
	if e.Nodes = slices.Compact(e.Nodes); len(e.Nodes) >= maxNodes {
		return wire.Refusal{Text: fmt.Sprintf("more than %d nodes of one cluster", maxNodes-1)}
	}
	// The authorities that it knows replace the others, once it shows that its own
	// certificate is of one of them: a key that was taken out of the secret goes.
	if wire.Signed(leaf, hello.Authorities, h.e.Cluster, hello.From) == nil {
		e.Authorities = hello.Authorities
	}
	if e.Self == h.e.Self && e.Interval == h.e.Interval && e.DeadAfter == h.e.DeadAfter && slices.Equal(e.Nodes, h.e.Nodes) &&
		slices.EqualFunc(e.Authorities, h.e.Authorities, slices.Equal) {
		return nil
	}
	return h.keep(e)
}

// carry serves a node's connection to its end. A newer one of the same node ends it.
func (h *host) carry(ctx context.Context, from membership.NodeID, c *wire.Conn) {
	h.mu.Lock()
	old := h.conns[from]
	h.conns[from] = c
	h.mu.Unlock()
	if old != nil {
		old.Close(wire.ErrReplaced)
	}
	h.log.Info("connected", "node", from)
	h.post(input{node.Connected{Peer: from}, c})
	err := c.Run(ctx, func(b []byte) {
		if h.room.Acquire(ctx, size(b)) == nil { // until then the node waits, and no other cluster does
			h.post(input{node.Received{From: from, Data: b}, c})
		}
	})
	h.post(input{node.Disconnected{Peer: from, Err: err.Error()}, c})
	h.log.Info("disconnected", "node", from, "err", err)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns[from] == c {
		delete(h.conns, from)
	}
}

// size is what a message takes of the room for those that wait.
func size(b []byte) int64 { return min(int64(len(b))+1, maxWaiting) }

// post hands an input to the loop; it blocks while the loop is behind: the node waits, and
// no other cluster does.
func (h *host) post(in input) {
	select {
	case h.inputs <- in:
	case <-h.ended:
	}
}

// loop owns the machine.
func (h *host) loop(ctx context.Context) {
	defer close(h.ended)
	defer h.shut()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		h.open()
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case in := <-h.inputs:
			h.take(in)
		}
		if h.v != nil && boottime() >= h.v.Deadline() {
			h.step(node.Timer{})
		}
		timer.Reset(h.rest())
	}
}

// rest is how long the loop may sleep.
func (h *host) rest() time.Duration {
	if h.v == nil {
		return maxTick
	}
	d := h.v.Deadline()
	if d == 0 {
		return maxTick
	}
	return min(max(d.Sub(boottime()), 0), maxTick)
}

// open makes the machine, or makes it anew from its store where the cluster says
// something else of itself than before.
func (h *host) open() {
	h.mu.Lock()
	e, dirty := h.e, h.dirty
	h.dirty = false
	h.mu.Unlock()
	if dirty && h.v != nil {
		same := h.made
		same.Nodes, same.Authorities, same.Token, same.At = e.Nodes, e.Authorities, e.Token, e.At
		if same.Self == e.Self && same.Interval == e.Interval && same.DeadAfter == e.DeadAfter {
			h.made = e
			h.v.SetNodes(e.Nodes)
			return
		}
		h.shut()
	}
	if h.v != nil || h.broken || e.Self == 0 || h.s.now().Before(h.retryAt) {
		return
	}
	if err := h.start(e); err != nil {
		h.fail(err)
	}
}

func (h *host) start(e enrolment) error {
	dir := h.logDir(e)
	h.sweep(e.ClusterID, filepath.Base(dir))
	store, restored, err := raft.Open(dir)
	if raft.GivenUp(err) {
		h.log.Error("the log is given up; joining anew", "err", err)
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		store, restored, err = raft.Open(dir)
	}
	if err != nil {
		return err
	}
	v, effs, err := voter.New(boottime(), voter.Options{Self: e.Self, Nodes: e.Nodes, NewID: random64(), Seed: random64(),
		Interval: e.Interval, Dead: e.DeadAfter}, restored)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	h.v, h.store, h.made = v, store, e
	h.execute(effs)
	for id := range h.up {
		h.step(node.Connected{Peer: id})
	}
	return nil
}

// logDir is where the log is of this witness under its id in a cluster.
func (h *host) logDir(e enrolment) string {
	return filepath.Join(h.s.state.clusterDir(e.ClusterID), fmt.Sprintf("%s%d", votesDir, e.Self-membership.FirstWitness))
}

// sweep removes the logs of earlier ids of this witness: they vote for nothing any more.
func (h *host) sweep(cluster, keep string) {
	entries, err := os.ReadDir(h.s.state.clusterDir(cluster))
	if err != nil {
		return
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), votesDir) && e.Name() != keep {
			if err := os.RemoveAll(filepath.Join(h.s.state.clusterDir(cluster), e.Name())); err != nil {
				h.log.Warn("an old log stays", "err", err)
			}
		}
	}
}

// take gives the machine an input, if it is of the connection that counts.
func (h *host) take(in input) {
	switch x := in.in.(type) {
	case node.Connected:
		if h.up[x.Peer] != nil {
			h.step(node.Disconnected{Peer: x.Peer})
		}
		h.up[x.Peer] = in.conn
	case node.Disconnected:
		if h.up[x.Peer] != in.conn {
			return
		}
		delete(h.up, x.Peer)
	case node.Received:
		defer h.room.Release(size(x.Data))
		if h.up[x.From] != in.conn {
			return
		}
	}
	h.step(in.in)
}

func (h *host) step(in node.Input) {
	if h.v != nil {
		h.execute(h.v.Step(boottime(), in))
	}
}

// execute does the effects in order. When a record cannot be written, the machine
// ends, as in a crash, with all that was to come after; it begins anew from what is on the disk.
func (h *host) execute(effs []node.Effect) {
	for _, e := range effs {
		switch e := e.(type) {
		case node.Persist:
			if err := h.store.Save(e.Record); err != nil {
				h.fail(err)
				return
			}
		case node.Send:
			if c := h.up[e.To]; c != nil {
				c.Send(e.Data)
			}
		case node.Emit:
			h.log.Info(string(e.Event.Kind), "text", e.Event.Text)
		}
	}
	if err := h.v.Fault(); err != nil {
		h.fault(err)
	}
}

// fault ends a machine that takes no part any more, and its log with it if that is no use.
func (h *host) fault(err error) {
	h.fail(err)
	if !raft.GivenUp(err) {
		h.broken = true
		return
	}
	h.retryAt = h.s.now()
	if err := os.RemoveAll(h.logDir(h.made)); err != nil {
		h.fail(err)
	}
}

// fail ends the machine for a while.
func (h *host) fail(err error) {
	h.log.Error("this witness does not vote for the cluster now", "err", err)
	h.shut()
	h.retryAt = h.s.now().Add(reopen)
}

// shut ends the machine.
func (h *host) shut() {
	if h.store != nil {
		if err := h.store.Close(); err != nil {
			h.log.Warn("close the log", "err", err)
		}
	}
	h.v, h.store = nil, nil
}

func random64() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.NativeEndian.Uint64(b[:]) | 1
}

func boottime() membership.Mono {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("witness: CLOCK_BOOTTIME: " + err.Error())
	}
	return membership.Mono(ts.Nano())
}
