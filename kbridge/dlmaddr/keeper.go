package dlmaddr

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// lookEvery is how often a Keeper looks whether all is as it should be.
const lookEvery = time.Second

// Options are what a Keeper is made of. Self and Network must be given.
type Options struct {
	Self    netip.Addr
	Network netip.Prefix
	Log     *slog.Logger // nil: silent
	Kernel  Kernel       // nil: this machine's, in the caller's network namespace
}

// Keeper keeps the stable address and the routes. Its methods may be called from anywhere.
type Keeper struct {
	o      Options
	k      Kernel
	wake   chan struct{}
	adopts []Route

	work sync.Mutex // held while the kernel is read and changed

	mu     sync.Mutex
	routes []Route // wanted
	set    bool    // they were given: until then what is there stays
	status Status
}

// Status is what there is.
type Status struct {
	Self   netip.Addr
	Holder string  // interface of the address; empty: it is not there
	Routes []Route // that are in force, by To, without From
	Err    string  // what could not be done; empty: nothing
}

// Open makes the address and the guard. Routes that are there already stay until Set.
func Open(o Options) (*Keeper, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{o: o, k: o.Kernel, wake: make(chan struct{}, 1)}
	if k.k == nil {
		kern, err := openKernel()
		if err != nil {
			return nil, err
		}
		k.k = kern
	}
	if err := k.sync(); err != nil {
		k.k.Close()
		return nil, err
	}
	k.adopts = slices.Clone(k.status.Routes)
	return k, nil
}

// Adopted are the routes that were there before, by To: of a run of the daemon before this.
func (k *Keeper) Adopted() []Route { return slices.Clone(k.adopts) }

// Set replaces the wanted routes, all of them. It does not block; Run puts them into force.
func (k *Keeper) Set(routes []Route) {
	k.mu.Lock()
	k.routes, k.set = slices.Clone(routes), true
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Run puts into force what is wanted, and puts right what others change, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
		case <-t.C:
		}
		_ = k.sync()
		if why := k.Status().Err; why != said {
			said = why
			if why != "" {
				k.o.Log.Error("the DLM's stable address", "err", why)
			} else {
				k.o.Log.Info("the DLM's stable address and its routes are as they should be again")
			}
		}
	}
}

// Sync does at once what Run does.
func (k *Keeper) Sync() error { return k.sync() }

func (k *Keeper) wanted() (w Wanted, set bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return Wanted{Self: k.o.Self, Network: k.o.Network, Routes: k.routes}, k.set
}

// sync makes the kernel what is wanted. One thing that cannot be done keeps none of the
// others from being done.
func (k *Keeper) sync() error {
	k.work.Lock()
	defer k.work.Unlock()
	want, set := k.wanted()
	have, err := k.k.Read(want)
	if err != nil {
		k.say(Have{}, err)
		return err
	}
	ops, cannot := Plan(have, want)
	if !set {
		ops = slices.DeleteFunc(ops, func(o Op) bool { return o.Kind == DelRoute })
	}
	var errs []error
	for _, o := range ops {
		errs = append(errs, k.k.Apply(o))
	}
	for _, why := range cannot {
		errs = append(errs, errors.New(why))
	}
	err = errors.Join(errs...)
	if len(ops) > 0 {
		var again error
		if have, again = k.k.Read(want); again != nil {
			err = errors.Join(err, again)
		}
	}
	k.say(have, err)
	return err
}

// say notes what there is.
func (k *Keeper) say(have Have, err error) {
	s := Status{Self: k.o.Self, Holder: have.Holder}
	for _, r := range have.Routes {
		if r.Dst.IsSingleIP() && r.Via.IsValid() {
			s.Routes = append(s.Routes, Route{To: r.Dst.Addr(), Via: r.Via})
		}
	}
	if err != nil {
		s.Err = err.Error()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status = s
}

// Status says what there is.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.status
	s.Routes = slices.Clone(s.Routes)
	return s
}

// Remove takes the address and the routes away. The Keeper must not run any more.
func (k *Keeper) Remove() error {
	k.work.Lock()
	defer k.work.Unlock()
	want, _ := k.wanted()
	have, err := k.k.Read(want)
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range PlanRemoval(have, want) {
		errs = append(errs, k.k.Apply(o))
	}
	return errors.Join(errs...)
}

// Close ends it and leaves everything as it is.
func (k *Keeper) Close() { k.k.Close() }
