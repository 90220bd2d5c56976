package liveness

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// objects are the program and its maps in the kernel.
type objects struct {
	baseObjects
	timedObjects // nil where the kernel has no timers for them

	page   []byte // self, in this process's memory
	self   *selfValue
	stamps stamps
	slots  atomic.Pointer[slotTable]
}

// baseObjects are what every kernel has to take.
type baseObjects struct {
	Counters *ebpf.Map     `ebpf:"counters"`
	Keys     *ebpf.Map     `ebpf:"keys"`
	Owns     *ebpf.Map     `ebpf:"owns"`
	Peers    *ebpf.Map     `ebpf:"peers"`
	Self     *ebpf.Map     `ebpf:"self"`
	Stamps   *ebpf.Map     `ebpf:"stamps"`
	States   *ebpf.Map     `ebpf:"states"`
	Reflect  *ebpf.Program `ebpf:"reflect"`
}

// timedObjects are the same program with timers.
type timedObjects struct {
	Deadlines *ebpf.Map     `ebpf:"deadlines"`
	Silences  *ebpf.Map     `ebpf:"silences"`
	Timed     *ebpf.Program `ebpf:"reflect_timed"`
}

// loadObjects gives the program to the kernel, with the maps pinned below dir, or with
// maps of its own when dir is empty. With timers it is the one that has them.
func loadObjects(dir string, timers bool) (*objects, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, err
	}
	return loadSpec(spec, dir, timers)
}

func loadSpec(spec *ebpf.CollectionSpec, dir string, timers bool) (_ *objects, err error) {
	opt := &ebpf.CollectionOptions{}
	if dir != "" {
		opt.Maps.PinPath = dir
		for _, m := range spec.Maps {
			m.Pinning = ebpf.PinByName
		}
	}
	o := &objects{}
	o.slots.Store(&slotTable{})
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Close())
		}
	}()
	if err := spec.LoadAndAssign(&o.baseObjects, opt); err != nil {
		return nil, refused(err)
	}
	if timers {
		opt.MapReplacements = map[string]*ebpf.Map{bpfMapCounters: o.Counters, bpfMapKeys: o.Keys, bpfMapOwns: o.Owns, bpfMapPeers: o.Peers,
			bpfMapSelf: o.Self, bpfMapStamps: o.Stamps, bpfMapStates: o.States}
		if err := spec.LoadAndAssign(&o.timedObjects, opt); err != nil {
			return nil, refused(err)
		}
	}
	if o.stamps, err = mapStamps(o.Stamps); err != nil {
		return nil, err
	}
	o.page, err = unix.Mmap(o.Self.FD(), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping the map of this node's state: %w", err)
	}
	o.self = (*selfValue)(unsafe.Pointer(&o.page[0]))
	return o, nil
}

func refused(err error) error {
	var v *ebpf.VerifierError
	if errors.As(err, &v) {
		return fmt.Errorf("the kernel's verifier refused the program: %+v", v)
	}
	return err
}

// maps are all that there are, by their names.
func (o *objects) maps() map[string]*ebpf.Map {
	all := map[string]*ebpf.Map{bpfMapCounters: o.Counters, bpfMapKeys: o.Keys, bpfMapOwns: o.Owns, bpfMapPeers: o.Peers, bpfMapSelf: o.Self,
		bpfMapStamps: o.Stamps, bpfMapStates: o.States, bpfMapDeadlines: o.Deadlines, bpfMapSilences: o.Silences}
	maps.DeleteFunc(all, func(_ string, m *ebpf.Map) bool { return m == nil })
	return all
}

// program is what is attached.
func (o *objects) program() *ebpf.Program {
	if o.Timed != nil {
		return o.Timed
	}
	return o.Reflect
}

// Close leaves what is pinned or attached.
func (o *objects) Close() error {
	var err error
	if o.page != nil {
		err = unix.Munmap(o.page)
		o.page, o.self = nil, nil
	}
	errs := []error{err, o.stamps.close()}
	for _, m := range o.maps() {
		errs = append(errs, m.Close())
	}
	return errors.Join(append(errs, o.Reflect.Close(), o.Timed.Close())...)
}

// progress is read by the program while it is written: the age is never older than
// the number that it goes with.
func (o *objects) progress(at membership.Mono, view uint64) {
	atomic.StoreUint64(&o.self.View, view)
	atomic.AddUint64(&o.self.Progress, 1)
	atomic.StoreUint64(&o.self.Ticked, uint64(at))
}

// configure makes the maps say what c says. What is known of peers that stay is kept.
func (o *objects) configure(c Config, learnt map[membership.NodeID]identity, homes map[[16]byte]home) error {
	if err := c.check(); err != nil {
		return err
	}
	keys := map[uint32]keyValue{}
	for i := len(c.Keys); i > 0; i-- { // of two with one epoch the first counts, as for the daemon
		keys[c.Keys[i-1].Epoch()] = keyOf(c.Keys[i-1])
	}
	if err := set(o.Keys, keys); err != nil {
		return err
	}
	had, err := dump[peerKey, peerValue](o.Peers)
	if err != nil {
		return err
	}
	slots := slots(had, c.Peers)
	peers, states := map[peerKey]peerValue{}, map[peerKey]bool{}
	for _, p := range c.Peers {
		peers[p.key()], states[p.key()] = p.value(learnt[p.Node], slots[p.key()]), true
	}
	if err := o.addStates(states); err != nil {
		return err
	}
	if err := set(o.Peers, peers); err != nil {
		return err
	}
	o.slots.Store(&slots)
	if err := o.dropStates(states); err != nil {
		return err
	}
	o.self.Node, o.self.Port = uint32(c.Self), portValue(c.Port)
	atomic.StoreUint64(&o.self.Late, uint64(probe.Outstanding*c.Interval))
	atomic.StoreUint64(&o.self.Silent, uint64(c.Silent))
	atomic.StoreUint64(&o.self.Run, c.Run)
	return o.own(c, homes)
}

// own says which address is of which link, and where its frames come in.
func (o *objects) own(c Config, homes map[[16]byte]home) error {
	owns := map[[16]byte]ownValue{}
	for i, a := range c.Links {
		h := homes[addrValue(a)]
		v := ownValue{Link: uint32(i), Ifindex: h.ifindex}
		if h.generic {
			v.Generic = 1
		}
		owns[addrValue(a)] = v
	}
	return set(o.Owns, owns)
}

// addStates makes what is missing: before its peer, so that no probe finds none.
func (o *objects) addStates(want map[peerKey]bool) error {
	for k := range want {
		if err := o.States.Update(k, newState(), ebpf.UpdateNoExist); err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
			return fmt.Errorf("map states: %w", err)
		}
	}
	return nil
}

func (o *objects) dropStates(want map[peerKey]bool) error {
	have, err := o.states()
	if err != nil {
		return err
	}
	for k := range have {
		if want[k] {
			continue
		}
		if err := o.States.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("map states: %w", err)
		}
	}
	return nil
}

func (o *objects) states() (map[peerKey]stateValue, error) {
	return dump[peerKey, stateValue](o.States)
}

// counters sums what all processors have counted.
func (o *objects) counters() (map[string]uint64, error) {
	out := map[string]uint64{}
	for r := range reasons {
		var each []uint64
		if err := o.Counters.Lookup(uint32(r), &each); err != nil {
			return nil, fmt.Errorf("map counters: %w", err)
		}
		for _, n := range each {
			out[r.String()] += n
		}
	}
	return out, nil
}

// set makes a map hold what is wanted and nothing else, new entries first.
func set[K, V comparable](m *ebpf.Map, want map[K]V) error {
	have, err := dump[K, V](m)
	if err != nil {
		return err
	}
	put, drop := diff(have, want)
	for k, v := range put {
		if err := m.Put(k, v); err != nil {
			return fmt.Errorf("map %s: %w", m, err)
		}
	}
	for _, k := range drop {
		if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("map %s: %w", m, err)
		}
	}
	return nil
}

func dump[K comparable, V any](m *ebpf.Map) (map[K]V, error) {
	out := map[K]V{}
	var k K
	var v V
	it := m.Iterate()
	for it.Next(&k, &v) {
		out[k] = v
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("map %s: %w", m, err)
	}
	return out, nil
}
