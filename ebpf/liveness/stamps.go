package liveness

import (
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// stamps is the map of stamps in this process's memory: to read it takes no system call.
type stamps struct {
	page []byte
	all  []stampValue // by slot
}

func mapStamps(m *ebpf.Map) (stamps, error) {
	size := maxPeers * int(unsafe.Sizeof(stampValue{}))
	page := os.Getpagesize()
	b, err := unix.Mmap(m.FD(), 0, (size+page-1)/page*page, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return stamps{}, fmt.Errorf("mapping the map of stamps: %w", err)
	}
	return stamps{b, unsafe.Slice((*stampValue)(unsafe.Pointer(&b[0])), maxPeers)}, nil
}

func (s *stamps) close() error {
	if s.page == nil {
		return nil
	}
	err := unix.Munmap(s.page)
	*s = stamps{}
	return err
}

// lookAgain is how often a stamp is read that the program is writing. It writes for some
// nanoseconds: whoever comes between for longer has stopped that processor, and the stamp
// that is half new is of two answers that did come. It is heard then, and what it says of
// probes counts when it is whole.
const lookAgain = 100

// read is what is stamped of a peer's answers to a run of this node's.
func (s *stamps) read(slot uint32, k peerKey, run uint64) probe.Arrival {
	if int(slot) >= len(s.all) || run == 0 {
		return probe.Arrival{}
	}
	at := &s.all[slot]
	var v stampValue
	whole := false
	for range lookAgain {
		v.Version = atomic.LoadUint64(&at.Version)
		v.At, v.Sequence, v.Age, v.Run = atomic.LoadUint64(&at.At), atomic.LoadUint64(&at.Sequence), atomic.LoadUint64(&at.Age), atomic.LoadUint64(&at.Run)
		v.Node, v.Link = atomic.LoadUint32(&at.Node), atomic.LoadUint32(&at.Link)
		v.Answered, v.Epoch, v.Responder = atomic.LoadUint64(&at.Answered), atomic.LoadUint64(&at.Epoch), atomic.LoadUint64(&at.Responder)
		v.View, v.Kernel = atomic.LoadUint64(&at.View), atomic.LoadUint64(&at.Kernel)
		if whole = v.Version&1 == 0 && atomic.LoadUint64(&at.Version) == v.Version; whole {
			break
		}
	}
	if !whole {
		v.Sequence, v.Answered = 0, 0
	}
	if v.Run != run || (peerKey{v.Node, v.Link}) != k {
		return probe.Arrival{}
	}
	return probe.Arrival{
		Seq: v.Sequence, At: membership.Mono(v.At), Age: time.Duration(min(v.Age, math.MaxInt64)), Answered: v.Answered,
		Epoch: v.Epoch, Stamp: membership.Mono(v.Responder), View: v.View, Kernel: v.Kernel != 0,
	}
}

// slots keeps the places of peers that stay, and gives each new one the first that is free.
func slots(have map[peerKey]peerValue, want []Peer) slotTable {
	out := slotTable{}
	taken := map[uint32]bool{}
	for _, p := range want {
		if v, ok := have[p.key()]; ok && !taken[v.Slot] && v.Slot < maxPeers { // two may have one, where a map was not filled to its end
			out[p.key()], taken[v.Slot] = v.Slot, true
		}
	}
	next := uint32(0)
	for _, p := range want {
		if _, ok := out[p.key()]; ok {
			continue
		}
		for taken[next] {
			next++
		}
		out[p.key()], taken[next] = next, true
	}
	return out
}

// slotTable has the places of peers in the maps of stamps and deadlines.
type slotTable map[peerKey]uint32

// Last is the newest answer of a peer on a link that this kernel has stamped. It waits for
// nothing, allocates nothing and makes no system call.
func (r *Reflector) Last(peer membership.NodeID, link int) probe.Arrival {
	r.page.Lock()
	defer r.page.Unlock()
	if r.own == nil {
		return probe.Arrival{}
	}
	return r.own.last(peerKey{uint32(peer), uint32(link)})
}

func (o *objects) last(k peerKey) probe.Arrival {
	slot, ok := (*o.slots.Load())[k]
	if !ok {
		return probe.Arrival{}
	}
	return o.stamps.read(slot, k, atomic.LoadUint64(&o.self.Run))
}
