package sim

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/group/raft"
)

// host is one machine: power, disk, kernel, and a daemon while one runs.
type host struct {
	w       *world
	id      membership.NodeID
	r       *rng
	witness bool // it is the witness: no kernel, and no machine of a node

	on    bool
	boots int
	boot  membership.BootID
	onAt  time.Duration
	base  membership.Mono // of its clock at power on
	ppm   int64           // by which its clock is fast
	disk  []*raft.Record
	// readOnly: no record can be written. What is on the disk stays.
	readOnly bool
	writes   time.Duration // a write takes at most that; 0: the plan's

	kern   *kernel
	d      *daemon
	runs   uint64
	frozen int // stopped as a whole: nothing runs, nothing answers
	paused int // the daemon alone is not run
	// stalled: its main loop alone is not run, and its prober answers, whatever that is.
	stalled int
	muted   int // its prober alone stands still, and asks nobody
	mutedAt time.Duration
	stills  uint64        // of the reasons above, this many were ended before their time
	illAt   time.Duration // when it last stood still, in whatever way

	wants    []bool // by lockspace, now
	file     string // the configuration that it begins with; empty: it is not configured
	agreed   agreedText
	lacks    string // a fence agent that is not installed
	machines int    // that it was before

	stayOff    bool      // after a cut it is not powered on before the end of the faults
	unattended bool      // only a reboot helps, and somebody must do it
	diedWith   []*kspace // what the kernel held at the last power cut
}

func newHost(w *world, id membership.NodeID) *host {
	h := &host{w: w, id: id, r: stream(w.opt.Seed, "host", uint64(id))}
	h.ppm = int64(h.r.Intn(401)) - 200
	if h.witness = id.IsWitness(); h.witness {
		return h
	}
	h.wants = make([]bool, len(w.plan.spaces))
	if int(id) <= w.plan.nodes-w.plan.reserve {
		h.file = sheet{Config: w.plan.config(0)}.text()
	}
	copy(h.wants, w.plan.wants[id-1])
	return h
}

// mono is the host's own clock; every boot starts it anew.
func (h *host) mono() membership.Mono { return h.monoAt(h.w.now) }

func (h *host) monoAt(t time.Duration) membership.Mono {
	d := int64(t - h.onAt)
	return h.base + membership.Mono(d+d/1_000_000*h.ppm)
}

// worldAt is when the host's clock will have reached m; never before it has.
func (h *host) worldAt(m membership.Mono) time.Duration {
	d := int64(m - h.base)
	return h.onAt + time.Duration(d-d/1_000_000*h.ppm) + time.Microsecond
}

func (h *host) powerOn() {
	if h.on || h.file == "" && !h.witness {
		return
	}
	if h.witness {
		h.witnessOn()
		return
	}
	h.on, h.onAt, h.boots = true, h.w.now, h.boots+1
	h.boot = membership.BootID(fmt.Sprintf("n%db%d", h.id, h.boots))
	h.base = membership.Mono(h.r.Between(time.Second, 1000*time.Second))
	h.frozen, h.paused, h.stalled, h.muted, h.unattended = 0, 0, 0, 0, false
	h.kern = newKernel(h)
	h.tracef("power on, boot %s", h.boot)
	h.w.note(uint64(h.id)<<8 | 1)
	h.startDaemonAfter(h.r.Between(100*time.Millisecond, 1500*time.Millisecond))
	h.w.net.changed()
}

// powerCut ends everything on the host at this moment, except what is on the disk.
func (h *host) powerCut(why string) {
	if !h.on {
		return
	}
	if h.witness {
		h.witnessOff(why)
		return
	}
	h.tracef("POWER CUT of %s: %s", h.boot, why)
	h.w.note(uint64(h.id)<<8 | 2)
	if h.w.opt.Died != nil {
		h.w.opt.Died(h.w.now, membership.Incarnation{Node: h.id, Boot: h.boot})
	}
	h.d.kill()
	h.diedWith = h.kern.spaces
	h.on, h.kern, h.d = false, nil, nil
	h.w.check.died(h)
	h.w.net.changed()
	h.w.net.silent(h.id)
}

// powerOnAfter boots the host later, unless somebody else does it before.
func (h *host) powerOnAfter(d time.Duration) {
	boots := h.boots
	h.w.after(d, func() {
		if h.boots == boots && !h.on {
			h.powerOn()
		}
	})
}

func (h *host) reboot(why string, off time.Duration) {
	h.powerCut(why)
	h.powerOnAfter(off)
}

// daemonCrash is a crash or kill of the daemon: dlm-monitor closes, so the
// kernel stops its lockspaces by itself. They stay, and no new daemon starts.
func (h *host) daemonCrash(why string) {
	if h.d == nil {
		return
	}
	h.tracef("daemon dies: %s", why)
	h.w.note(uint64(h.id)<<8 | 3)
	h.endDaemon()
	h.startDaemonAfter(h.r.Between(200*time.Millisecond, 2*time.Second))
}

func (h *host) endDaemon() {
	h.d.kill()
	h.d = nil
	h.kern.monitorClosed()
	h.w.net.changed()
	h.w.net.reset(h.id)
}

func (h *host) startDaemonAfter(d time.Duration) {
	boots := h.boots
	h.w.after(d, func() {
		if !h.on || h.boots != boots || h.d != nil {
			return
		}
		if len(h.kern.spaces) > 0 {
			h.tracef("daemon does not start: the kernel holds lockspaces of an earlier daemon")
			h.unattended = true
			h.rebootUnattended()
			return
		}
		h.startDaemon()
	})
}

// rebootUnattended is the operator who finds a node without a daemon.
func (h *host) rebootUnattended() {
	boots := h.boots
	h.w.after(h.r.Between(5*time.Second, 25*time.Second), func() {
		if h.on && h.boots == boots && h.unattended {
			h.reboot("operator: nothing else helps", h.r.Between(time.Second, 4*time.Second))
		}
	})
}

func (h *host) pause(for_ time.Duration) {
	h.tracef("daemon is not run for %v", for_)
	h.still(&h.paused, for_)
}

func (h *host) freeze(for_ time.Duration) {
	h.tracef("frozen for %v", for_)
	h.still(&h.frozen, for_)
}

func (h *host) stall(for_ time.Duration) {
	h.tracef("daemon's main loop stands still for %v", for_)
	h.still(&h.stalled, for_)
}

func (h *host) mute(for_ time.Duration) {
	h.tracef("prober stands still for %v", for_)
	if h.muted == 0 {
		h.mutedAt = h.w.now
	}
	h.still(&h.muted, for_)
}

// resume ends a pause and a stall before their time.
func (h *host) resume() {
	h.stills++
	h.paused, h.stalled, h.muted, h.illAt = 0, 0, 0, h.w.now
	h.w.net.changed()
	h.d.pump()
}

// still counts one more reason to stand still, for a while or until the power goes.
func (h *host) still(reasons *int, for_ time.Duration) {
	*reasons++
	h.illAt = h.w.now
	h.w.net.changed()
	boots, stills := h.boots, h.stills
	h.w.after(for_, func() {
		if h.boots != boots || h.stills != stills || *reasons == 0 {
			return
		}
		*reasons--
		h.illAt = h.w.now
		h.w.net.changed()
		h.d.pump()
	})
}

// wipe loses the disk of a host that is off.
func (h *host) wipe() {
	if !h.on {
		h.tracef("disk is wiped")
		h.disk, h.agreed = nil, agreedText{}
	}
}
