// Package sim runs whole clusters on virtual time in one process, breaks them,
// and checks after every step what must always hold.
//
// One seed is one run: nodes, timing, network, kernels, disks, fence devices and
// faults are all drawn from streams of the seed, one stream a concern, and the
// run replays exactly. There is one goroutine, no wall clock, and no iteration
// over maps that anything depends on.
//
// # What is real
//
// Each node is a node.Node over a raft.Machine, or with Options.Static over a
// static.Machine and a list of all nodes: every decision of the daemon.
//
// # What is simulated
//
//   - host: power, boot ids, a disk that makes records durable in order or takes
//     no more of them, a daemon that can crash between any two effects, stall as a whole, in
//     its main loop or in its prober alone, or be slow to write
//   - kernel: comms entries, lockspaces, uevents (one join or leave at a time a
//     node), recovery that ends on a node only when every member of its start
//     has started with the same members, stops that hang, starts that fail
//   - network: delay, cuts of one direction or both, by link; connections keep
//     their order, stall when cut, and break later
//   - probes: computed, not sent packet by packet
//   - fence devices: success, failure, cut and failure, slow, hanging, late, and
//     lies: success and no cut. A lie is told of a victim that answers its actor's
//     probes, and lasts while it does: one that falls silent has its power cut,
//     since that it lives on behind a device that lies nobody could tell, and the
//     cluster does not claim to. The operator never lies; an agent dies with its
//     daemon, and one whose host stood still goes on, late, when that wakes up
//   - programs: mount and unmount, and write to the shared disk from the mount
//     on until the unmount or the power cut, whatever the daemon does
//
// # What is checked
//
// The checker (check.go) knows only what kernels, disks and power switches did,
// never what a node believes. Each finding begins with an invariant's name:
// I1 one-primary, I2 stop-before-start, I3 fence-before-recover, I4
// quorum-before-start, I5 same-members, I6 one-answer, I7 no-zombie, I8
// progress; besides, hold (who was announced to stand still is not evicted for
// it), maintenance (nobody is, while one is announced), conversation (two kernels
// that began to talk anew did so both), slot-zero (none
// is told of the death of one whose slot it may not know), stray-on (a device that is
// switched on late, for a node that is a member), false-alarm (a device is said to have
// lied, and did not), one-vote (a
// node's, in a term), shot-well (a node that went on and was heard is not fenced in a
// takeover), log-agreement, journal-replay, stray-shot,
// machine (it stopped itself on a broken invariant, or panicked) and livelock.
package sim
