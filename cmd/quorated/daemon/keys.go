package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/rotation"
	"github.com/quorate/quorate/membership/secret"
)

// keyQueue is how many changes of keys may wait. Those that peers ask for are
// repeated by them, and are dropped when there is no room.
const keyQueue = 16

// errChanged: what an operator wrote is not taken over by the way, since nobody has
// looked whether the other nodes would understand it.
var errChanged = errors.New("it was changed by hand and not loaded: run `quorate key reload` first")

// keyring is the key file and what is loaded of it. Its work is done by one
// goroutine, since a file system may stand still; what is loaded is read by all.
type keyring struct {
	path   string
	loaded atomic.Pointer[secret.Secret]
	work   chan func()
	// apply has the network send with the first key, and accept all.
	apply func(secret.Secret) error
	// renewed hears that others are loaded; nil: nobody does.
	renewed func()
	// gone says that an operator had a key dropped; post is where the machine hears.
	gone func(rotation.Key) bool
	post func(node.Input)
}

func newKeyring(path string, s secret.Secret) *keyring {
	k := &keyring{path: path, work: make(chan func(), keyQueue)}
	k.loaded.Store(&s)
	return k
}

// run does what is asked, until ctx ends.
func (k *keyring) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-k.work:
			f()
		}
	}
}

// names are the names of what a secret holds.
func names(s secret.Secret) (rotation.Loaded, error) {
	all, made, err := s.Keys()
	return rotation.Loaded{Keys: all, Rotated: made}, err
}

// tell says what is loaded now, and what kept a change from being made.
func (k *keyring) tell(in node.Keys, err error) {
	l, lerr := names(*k.loaded.Load())
	if err = errors.Join(err, lerr); err != nil {
		l.Err = err.Error()
	}
	l.Read = in.Read
	in.Loaded = l
	k.post(in)
}

// use loads a secret.
func (k *keyring) use(s secret.Secret) error {
	if err := k.apply(s); err != nil {
		return err
	}
	k.loaded.Store(&s)
	if k.renewed != nil {
		k.renewed()
	}
	return nil
}

// change changes the file, and loads what it gives.
func (k *keyring) change(f func(*secret.File) error) error {
	file, err := secret.Open(k.path)
	if err != nil {
		return err
	}
	if same, err := sameKeys(file.Secret(), *k.loaded.Load()); err != nil || !same {
		return errors.Join(err, &secret.OpError{Op: "change", Path: k.path, Err: errChanged})
	}
	if err := f(file); err != nil {
		return err
	}
	if same, err := sameKeys(file.Secret(), *k.loaded.Load()); err != nil || same {
		return err // it was done already
	}
	if err := file.Write(); err != nil {
		return err
	}
	return k.use(file.Secret())
}

func sameKeys(a, b secret.Secret) (bool, error) {
	x, err := names(a)
	if err != nil {
		return false, err
	}
	y, err := names(b)
	return slices.Equal(x.Keys, y.Keys), err
}

// draw makes a key of a new epoch, for a rotation.
func (k *keyring) draw(e node.DrawKey) {
	in := node.Keys{Token: e.Token}
	err := k.change(func(file *secret.File) error {
		if have := file.Secret().Epochs(); slices.Max(have) >= e.Epoch {
			return fmt.Errorf("a key of epoch %d came meanwhile: another node rotates; see `quorate key status`", slices.Max(have))
		}
		s, err := secret.Draw(e.Epoch)
		if err != nil {
			return err
		}
		l, err := names(s)
		if err != nil {
			return err
		}
		in.Begin = &rotation.Plan{Key: l.Keys[0], Now: e.Now}
		return file.Add(s)
	})
	k.tell(in, err)
}

// first has this node send with a key.
func (k *keyring) first(id rotation.Key) {
	k.tell(node.Keys{}, k.change(func(file *secret.File) error { return file.First(id) }))
}

// drop takes a key out.
func (k *keyring) drop(id rotation.Key) {
	k.tell(node.Keys{}, k.change(func(file *secret.File) error {
		l, err := names(file.Secret())
		if err != nil || !slices.Contains(l.Keys, id) {
			return err
		}
		if l.Keys[0] == id {
			return fmt.Errorf("key %v is what this node sends with, and stays", id)
		}
		return file.Remove(id)
	}))
}

// take adds a key that a peer has handed over, unless there is nothing to do.
func (k *keyring) take(line []byte) {
	s, id, err := secret.Handed(line)
	if err != nil {
		k.tell(node.Keys{}, fmt.Errorf("a key that a peer handed over: %w", err))
		return
	}
	if k.gone(id) {
		return
	}
	have, err := names(*k.loaded.Load())
	if err != nil {
		k.tell(node.Keys{}, err)
		return
	}
	take, replace, err := rotation.Admit(have.Keys, id)
	if err == nil && !take {
		return
	}
	if err == nil {
		err = k.change(func(file *secret.File) error {
			if replace != (rotation.Key{}) {
				return file.Replace(replace, s)
			}
			return file.Add(s)
		})
	}
	k.tell(node.Keys{}, err)
}

// read says what the file holds now.
func (k *keyring) read(token uint64) {
	in := node.KeysRead{Token: token}
	s, err := secret.Load(k.path)
	if err == nil {
		var l rotation.Loaded
		l, err = names(s)
		in.Keys = l.Keys
	}
	in.Err = text(err)
	k.post(in)
}

// load loads the file, if it is as it was read.
func (k *keyring) load(e node.LoadKeys) {
	s, err := secret.Load(k.path)
	if err == nil {
		var l rotation.Loaded
		if l, err = names(s); err == nil && !slices.Equal(l.Keys, e.Keys) {
			err = fmt.Errorf("%s was changed again meanwhile: run `quorate key reload` when it is as it shall be", k.path)
		}
	}
	if err == nil {
		err = k.use(s)
	}
	in := node.Keys{Token: e.Token}
	in.Read = err == nil
	k.tell(in, err)
}

// openKeys makes the keyring, and is told what it finds.
func (d *Daemon) openKeys(s secret.Secret) (rotation.Loaded, error) {
	d.keys = newKeyring(d.cfg.KeyFile, s)
	d.keys.post = d.post
	d.keys.gone = func(k rotation.Key) (gone bool) {
		if err := d.do(d.runCtx, func() { gone = d.node.KeyDiscarded(k) }); err != nil {
			return true // the daemon is ending
		}
		return gone
	}
	d.keys.apply = func(s secret.Secret) error {
		probes, err := s.ProbeKeys()
		if err != nil {
			return err
		}
		d.reflectorKeys(probes)
		return errors.Join(d.comm.SetSecret(s), d.prober.SetKeys(probes))
	}
	return names(s)
}

// handed queues a key that a peer handed over; the peer repeats it.
func (d *Daemon) handed(line []byte) {
	own := slices.Clone(line)
	select {
	case d.keys.work <- func() { d.keys.take(own) }:
	default:
	}
}

// changeKeys executes an effect on keys; false: it is none.
func (d *Daemon) changeKeys(e node.Effect) bool {
	var f func()
	switch e := e.(type) {
	case node.HandKey:
		d.hand(e.To, e.Key)
		return true
	case node.DrawKey:
		f = func() { d.keys.draw(e) }
	case node.SwitchKey:
		f = func() { d.keys.first(e.Key) }
	case node.DropKey:
		f = func() { d.keys.drop(e.Key) }
	case node.ReadKeys:
		f = func() { d.keys.read(e.Token) }
	case node.LoadKeys:
		f = func() { d.keys.load(e) }
	default:
		return false
	}
	d.async(func() { // the loop never waits for a file
		select {
		case d.keys.work <- f:
		case <-d.done:
		}
	})
	return true
}

// hand sends a key to a peer that lacks it, over a connection that proved who it is.
func (d *Daemon) hand(to membership.NodeID, id rotation.Key) {
	if line, ok := d.keys.loaded.Load().Hand(id); ok {
		d.comm.Send(to, node.KeyMessage(line))
	}
}
