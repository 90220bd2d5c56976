// Package cluster is the replicated state of a cluster: who is a member, which
// incarnations were evicted and whether each is proved to be gone, and in what
// view all that stands.
//
// It is a deterministic function of the total order: State.Apply takes one
// entry at its index and returns what became of it. Nothing here reads a clock;
// durations that an entry carries are judged by the member that proposes the
// next entry (a lease that ran out is an entry of its own).
//
// # The life of an incarnation
//
//	admitted -> member -> left                       (clean leave, nothing to prove)
//	                   -> evicted -> refused         (never had an open lockspace: may return with a higher session)
//	                              -> needs proof -> proved
//
// Proof is one of: an agent's success for a job whose start was committed after
// the eviction (S12), a new boot of the same machine (S4), an operator's
// acknowledgement, a List without the node (for a group that agrees on nothing
// itself: its writer's word). One job at a time runs against a victim; a job that was
// started keeps the victim's next incarnation out until it has ended, has
// expired, or its actor is proved dead.
//
// # Holds
//
// A member whose freeze was announced (Hold) is not evicted for being silent,
// unlinked, stalled or stuck before a HoldEnd: an eviction that was decided
// before the hold and is ordered after it is refused. A hold names an
// incarnation and ends with it. Nothing else changes: the member stays in its
// lockspaces, and a change that needs its word waits for it. A Maintenance is a hold of
// all. A Drain asks a member to leave when nothing is in use there.
//
// # What else is agreed
//
// The configuration (Configured: a change of it needs every member's yes), the witness,
// who counts (Electorate: what a clean leave, a proof or a Takeover has left of the
// configured nodes), and which devices were switched on for a node that boots (Unfenced).
package cluster
