// Package dlm drives one node's kernel DLM: configfs for who the members are,
// sysfs to stop and start a lockspace and to answer its uevents, the uevent
// socket to hear what mounts and programs ask for, dlm-monitor to tell the
// kernel that somebody is in control.
//
// It decides nothing. It does what it is told, in the kernel's order, and
// reports through Options.Events.
//
// # The order of things
//
// Open: modprobe dlm; no lockspace may exist (ErrUncontrolled); configfs is
// cleared from the bottom up; the uevent socket is opened; the cluster's
// attributes are written; dlm-monitor is opened and held; then our own comm.
//
// For each lockspace:
//
//	Online  → Start{Join} → StartDone → Recovered     event_done=0 goes before Recovered
//	        → FailJoin    → JoinFailed                event_done=-errno
//	        → Stop, Start → StartDone → Recovered     as often as the members change
//	Offline → FinishLeave → LeaveDone                 event_done=0
//
// A joiner's uevent is answered when the kernel's recovery of its first start is
// done, not when that start was written. The kernel runs the recovery meanwhile
// (new_lockspace starts recoverd before it waits for the answer), the mount
// waits for both anyway, and until the answer a join that cannot finish can
// still be refused: after it only a reboot would end the wait. StartJob.Hold
// leaves it to AnswerJoin.
//
// # Promises
//
//   - No method blocks for the kernel. Each lockspace and each peer has a queue
//     of its own, worked off in order by one goroutine; a write in D state holds
//     up that queue and nothing else. Busy lists what is under way.
//   - Exactly one event_done for each online and offline (I6). A call that does
//     not fit the state is ErrState and writes nothing.
//   - Events of one lockspace come in order; nothing of a start is reported
//     after Stop was called, except its StartDone. Options.Events is called by
//     one goroutine at a time and must not block.
//   - A start waits for the comms entries of its members that are being made.
//     Where the kernel cannot be told of a failure in any other way than by the
//     comms entry, a start with a failed node whose entry is still there is
//     refused (ErrPeer): its journal would silently not be replayed.
//   - Stop lets a start that removed or renewed members be noticed first
//     (recover_status moves, at most 100 ms), and one that was not is repeated
//     in full by the next (S21).
//
// Since Linux 6.12 the removal of a comms entry waits for an attempt to connect to the
// peer, up to 131 s with the tree's mutex held, so that no lockspace of the node can be
// started meanwhile. Attempts are ended (SOCK_DESTROY); where that fails, as on a kernel
// built without it, the peer's neighbour entry is forgotten again and again, and the next
// SYN fails. An entry that is a router's or an operator's stays: the removal waits, and
// the log says so.
//
// A refused joiner that was started gets its error when the kernel has shut its
// connections. To peers that did not answer that took 10 s and more on Linux 6.1, so
// their comms entries are made anew first, at both ends: see RenewPeer.
//
// Sources of the kernel facts: fs/dlm/{lockspace,member,recoverd,config,user}.c
// of Linux 6.1 to 6.18.
package dlm
