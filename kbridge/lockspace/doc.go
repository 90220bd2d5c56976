// Package lockspace is the life of the DLM's lockspaces: one change at a time,
// agreed by all members, executed by each against its own kernel.
//
// It has two halves, both pure.
//
// Set is replicated: a function of the total order, the same at every member.
// It knows for each lockspace who is in it, who asked to join or leave, who was
// lost, and the one change under way:
//
//	stopping   every surviving member writes control=0 and says so in the log
//	proving    every lost incarnation is proved gone, and the view is quorate
//	opened     all members write the same members and control=1
//	           the kernel recovers; each member reports; the change is done
//
// A loss in the middle supersedes the change; joins and leaves that come before
// it opens are merged into it, those that come later wait for its end (S22). A
// leaver is in the stop barrier and becomes a loss if it dies there (S19). A
// restart with the same members is a change like any other (S20).
//
// Local is one node's: it compares the Set with what its own kernel is known to
// be doing and says what to do next (stop, start, answer a uevent, set or remove
// a peer's comms entry) and what to propose. It is level-triggered: it may be
// asked at any time, and asks again for what was lost.
//
// # Rules that hold between the two
//
//   - nobody starts change n before every surviving old member has said that it
//     stopped for it (I2), and says so only when its kernel has answered
//   - nobody starts before every lost incarnation is proved gone (I3)
//   - a lost node's comms entry is removed after all lockspaces shared with it
//     are stopped and before any is started; it is made again only when no
//     lockspace has the old incarnation pending (S21)
//   - a new incarnation of a lost node joins a lockspace only after the change
//     that removed the old one is done
//   - a join of which a node's kernel knows nothing (its program gave up, or was
//     refused in a drain) is taken back by that node: by a leave, or where a change
//     opened with it by a refusal, at once; and no later program there gets it
package lockspace
