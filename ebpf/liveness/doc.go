// Package liveness answers the probes of membership/probe in the kernel: an XDP program
// sends each one back where it comes in, before the network stack, and whatever the
// daemon does. So an answer says that the kernel lives, and how long ago its daemon
// made progress. The same program takes in the answers to this node's own probes, so that
// the daemon is never wrong about when one came, and is not woken for any.
//
// # What the program promises
//
// It answers what the daemon would (membership/probe/udp), and nothing else. In this
// order: it is UDP, whole, without IP options or extension headers, behind one VLAN tag
// at most, to the probes' port and an own address of the interface that it came in by (what
// is for a bond comes in by others); its length; the first bytes of a probe; key and tag;
// destination, link, source, and the address of that; the prober's port. Then what is known of the peer: a copy of a probe that has come is not answered
// again, and a second has so many answers. What it refuses is dropped where the daemon
// would refuse it for certain, and goes to the daemon where that may know better: a key,
// or a node, that has just come. All other frames pass as they are. Every end has a
// counter, and what is dropped was authentic or claimed to be, with one of our keys, at
// one of our addresses.
//
// The answer goes back through the same interface, addresses and ports swapped, with a
// hop limit of its own and whole checksums.
//
// Long probes, by which a network is found that loses long packets, have another length and
// pass: the daemon answers them. None says that a node lives.
//
// # It proves that its answers arrive
//
// A driver may take a frame from an XDP program and lose it; a virtual Ethernet device
// does, as long as its other end has no program. So each probe names the newest answer
// of this node that its sender has heard. Until that is the kernel's, and again when it
// is too old (Peer.Trust, and older than the last two), every other probe is left to the
// daemon. Nobody is silent for it, and Maintain goes on to the next mode when peers hear
// the daemon and not the kernel for some seconds.
//
// # Whether there is a daemon
//
// The program looks for a socket that waits at the probe's destination. An answer without
// one says so (probe.FlagNoDaemon): a daemon that stands still and one that has ended
// are different things.
//
// # When an answer came
//
// The program judges an answer as the daemon would (udp.target.accept): its tag, peer, link and
// address, as of a probe; that it is to this run of this node's prober (Config.Run), from
// the epoch learnt, with a newer sequence than any before, to a probe that is no older than
// probe.Outstanding intervals by the time that it echoes, and that its sender has a daemon.
// Then its peer and link have its arrival by the boot clock and what it says, in a map that the daemon
// reads like memory, and the frame is dropped: Last takes no system call and makes no garbage,
// and nothing wakes the daemon. What the program does not stamp goes on to the daemon, and
// counts as it is read there.
//
// # When none comes
//
// Watch tells of a peer and link whose stamp has become Config.Silent old, once for each
// answer, on a locked thread with SCHED_FIFO where that is allowed. It waits for one of two
// things, and Alarm says which, and why:
//
//   - Timer: each answer winds up a bpf_timer of its peer and link. One that runs down
//     leaves a record in a ring buffer, which wakes the thread (BPF_RB_FORCE_WAKEUP).
//   - TimerFD: a timerfd at the earliest time at which a stamp can have become too old,
//     where Load could not have a timer run down. A kernel without a JIT refuses callbacks,
//     and so the whole program that has one: the same without it is attached then.
//
// Neither is believed: Watch looks at the stamp before it tells, and the daemon at all
// stamps before it judges. A record that is lost, or comes late, costs nothing but
// exactness: the daemon's own timers look as they do where there is no program. The thread
// is one of a Go program's: where goroutines compute on all processors of the runtime it
// waits for its turn, for up to 10 ms each, whatever its priority.
//
// # What outlives the daemon
//
// Maps and attachments are pinned below Root, a folder for each cluster. A daemon that
// stops, or is stopped, leaves the kernel answering (Close). The next one of this boot
// takes over maps, attachments and the epoch of the answers (Load), fills the maps
// (Configure), and then replaces the program in place (Maintain): there is no gap. Maps of
// another layout stay until then. A clean leave takes everything away (Remove).
//
// # Where it is attached
//
// choose.go decides, of what attach.go sees, for each interface that has an own address:
// in the driver, in the stack, or nowhere, and why. A driver of which the kernel says that it
// does not do XDP (ebpf/netdev) is not tried, unless it alone is wanted. Another XDP program that is there is
// respected. Maintain is called every second by Run; it notices what was taken away.
//
// Before anything else a self-test has the kernel run the program on a probe and an answer:
// with timers, and where that fails without them.
//
// The C files are "GPL-2.0 OR BSD-2-Clause" (bpf/LICENSE); the objects beside them are
// made by `make generate`. They need Linux 5.18 (bpf_xdp_load_bytes), no BTF of the kernel,
// and no JIT.
package liveness
