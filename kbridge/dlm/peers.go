package dlm

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/configfs"
	"github.com/quorate/quorate/membership"
)

// abortEvery is how often connection attempts to a peer are ended while its
// comms entry is being removed: the kernel may be between two of them.
const abortEvery = 200 * time.Millisecond

func peerKey(n membership.NodeID) string { return fmt.Sprintf("peer %d", n) }

// onPeer has the queue of a peer do something.
func (d *Driver) onPeer(op string, i membership.Incarnation, do func()) error {
	if i.Node == d.o.Self || i.Node == 0 {
		return opError(op, i.String(), fmt.Errorf("%w: not a peer", ErrPeer))
	}
	return d.work.post(peerKey(i.Node), op, do)
}

// SetPeer makes the comms entry of a peer's incarnation; an entry of another
// incarnation is removed first. PeerSet answers.
func (d *Driver) SetPeer(i membership.Incarnation) error {
	return d.onPeer("set-peer", i, func() {
		d.emit(PeerSet{Incarnation: i, Err: opError("set-peer", i.String(), d.setPeer(i))})
	})
}

func (d *Driver) setPeer(i membership.Incarnation) error {
	if d.peer(i.Node) == i {
		return nil
	}
	id := uint32(i.Node)
	have, present, err := configfs.ReadComm(d.o.Configfs, id)
	if err != nil {
		return err
	}
	var h *configfs.Comm
	if present {
		h = &have
	}
	want, err := d.comm(i.Node)
	if err != nil {
		return err
	}
	want.Renew = true
	ops, err := configfs.PlanComm(id, h, &want)
	if err != nil {
		return err
	}
	d.update(func() { delete(d.peers, i.Node) })
	d.aborting(d.targets(i.Node), func() { err = configfs.Apply(d.o.Configfs, ops) })
	if err == nil {
		d.update(func() { d.peers[i.Node] = i })
	}
	return err
}

// RemovePeer removes the comms entry of an incarnation; PeerRemoved answers. An
// entry of another incarnation stays. It may take long: see the package.
func (d *Driver) RemovePeer(i membership.Incarnation) error {
	return d.onPeer("remove-peer", i, func() {
		t := time.Now()
		err := opError("remove-peer", i.String(), d.removePeer(i))
		d.emit(PeerRemoved{Incarnation: i, Took: time.Since(t), Err: err})
	})
}

func (d *Driver) removePeer(i membership.Incarnation) error {
	if have := d.peer(i.Node); have.Node != 0 && have != i {
		return nil
	}
	var err error
	ops := []configfs.Op{{Kind: configfs.Rmdir, Path: configfs.CommPath(uint32(i.Node))}}
	d.aborting(d.targets(i.Node), func() { err = configfs.Apply(d.o.Configfs, ops) })
	if err == nil {
		d.update(func() { delete(d.peers, i.Node) })
	}
	return err
}

// RenewPeer makes the comms entry of an incarnation anew, after a refused join:
// PeerRenewed answers. That ends the DLM's connections with the peer and forgets how far
// their conversation went. The peer has to do the same, or the two ignore each other's
// messages afterwards; and a kernel that ends its last lockspace does not wait for a
// peer that does not answer (on Linux 6.1 up to three minutes, the refused mount with it).
// No lockspace here may have the peer as a member: to the kernel a new entry is the sign
// of a death.
func (d *Driver) RenewPeer(i membership.Incarnation, lockspace string, epoch uint64) error {
	return d.onPeer("renew-peer", i, func() {
		troubles := slices.DeleteFunc(d.Troubles(), func(t Trouble) bool { return t.Node != i.Node })
		err := opError("renew-peer", i.String(), d.renewPeer(i, troubles))
		d.emit(PeerRenewed{Incarnation: i, Lockspace: lockspace, Epoch: epoch, Troubles: troubles, Err: err})
	})
}

// renewPeer leaves the entry as it is where its removal would wait for an attempt to
// connect: the two have said nothing to each other yet.
func (d *Driver) renewPeer(i membership.Incarnation, troubles []Trouble) error {
	connecting := slices.ContainsFunc(troubles, func(t Trouble) bool { return t.Text == synUnanswered })
	if d.peer(i.Node) != i || connecting && connectBlocks(d.o.Release) && !d.abortAll(i.Node) {
		return nil
	}
	d.update(func() { delete(d.peers, i.Node) })
	return d.setPeer(i)
}

// connectBlocks: since Linux 6.12 the removal of a comms entry waits for a
// connection attempt. A release that cannot be read is taken for a new one.
func connectBlocks(release string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return true
	}
	return major > 6 || major == 6 && minor >= 12
}

// peer is the incarnation whose comms entry is there.
func (d *Driver) peer(n membership.NodeID) membership.Incarnation {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peers[n]
}

// target is an address to which the DLM may be trying to connect.
type target struct {
	to  netip.Addr
	own []netip.Addr // all that the peer has
}

func (d *Driver) targets(n membership.NodeID) (all []target) {
	addrs := d.addrsOf(n)
	own := slices.Concat(addrs, (*d.links.Load())[n])
	for _, a := range addrs {
		all = append(all, target{a, own})
	}
	return all
}

func (d *Driver) allTargets() (all []target) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for n := range d.peers {
		all = append(all, d.targets(n)...)
	}
	return all
}

// aborting runs f, which removes comms entries, and ends the DLM's connection
// attempts to the targets before and meanwhile. Since Linux 6.12 the removal
// waits for the attempt, 131 s at worst, with the tree's mutex held. A kernel that
// cannot end one has it fail, if nobody is at the address.
func (d *Driver) aborting(targets []target, f func()) {
	h := helper{d: d, targets: targets, said: map[string]bool{}}
	h.help(false)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(abortEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				h.help(true)
			case <-done:
				return
			}
		}
	})
	f()
	close(done)
	wg.Wait()
}

// abort ends the attempts to connect to an address. Only with an attempt under way does
// the kernel say that it cannot (EOPNOTSUPP): no error may as well mean that there is none.
func (d *Driver) abort(to netip.Addr) error {
	n, err := d.o.Sockets.AbortConnects(to, d.o.Port)
	if n > 0 && err == nil {
		d.o.Log.Info("ended connection attempts", slog.String("to", to.String()), slog.Int("count", n))
	}
	return err
}

// abortAll says whether no attempt to connect to a peer is left; false: it cannot be said.
func (d *Driver) abortAll(n membership.NodeID) bool {
	all := d.targets(n)
	for _, t := range all {
		if err := d.abort(t.to); err != nil {
			d.o.Log.Debug("cannot end connection attempts", slog.String("to", t.to.String()), slog.Any("err", err))
			return false
		}
	}
	return len(all) > 0
}

// helper helps one removal of comms entries, and says each thing once.
type helper struct {
	d       *Driver
	targets []target
	said    map[string]bool
}

// help ends attempts to connect, or has them fail. An error of any kind leaves them
// there, so the neighbour is forgotten; waits says that the removal has been under way.
func (h *helper) help(waits bool) {
	for _, t := range h.targets {
		err := h.d.abort(t.to)
		if err == nil {
			continue
		}
		h.say(slog.LevelDebug, "cannot end connection attempts", t.to, err)
		if !connectBlocks(h.d.o.Release) {
			continue
		}
		if ferr := h.d.o.Sockets.Forget(t.to, t.own); ferr != nil && waits {
			h.say(slog.LevelWarn, "the removal of a comms entry waits for the DLM's attempt to connect, up to 131 s: it can be neither ended nor made to fail", t.to, fmt.Errorf("%w; %w", err, ferr))
		}
	}
}

func (h *helper) say(l slog.Level, text string, to netip.Addr, err error) {
	key := fmt.Sprint(text, to, err)
	if h.said[key] {
		return
	}
	h.said[key] = true
	h.d.o.Log.Log(h.d.ctx, l, text, slog.String("to", to.String()), slog.Any("err", err))
}

// awaitPeers waits for the comms entries that the start depends on, and sees
// that they are right.
func (d *Driver) awaitPeers(j *StartJob) error {
	old := d.features.ReleaseRecover != configfs.Yes
	for _, g := range j.Gone {
		if !old || !g.Failed && !g.ReleaseRecover {
			continue
		}
		if err := d.work.wait(d.ctx, peerKey(g.Incarnation.Node)); err != nil {
			return err
		}
		if d.peer(g.Incarnation.Node) == g.Incarnation {
			return fmt.Errorf("%w: the failed %s still has its own; remove it first, this kernel has no other way to hear of a failure", ErrPeer, g.Incarnation)
		}
	}
	for _, m := range j.Members {
		if m.Incarnation.Node == d.o.Self {
			continue
		}
		if err := d.work.wait(d.ctx, peerKey(m.Incarnation.Node)); err != nil {
			return err
		}
		if have := d.peer(m.Incarnation.Node); have != m.Incarnation {
			return fmt.Errorf("%w: member %s, there is %s", ErrPeer, m.Incarnation, have)
		}
	}
	return nil
}
