// Package node is everything that one quorated decides, with no I/O: it wires
// the pure cores (group, liveness, cluster, lockspace) into one deterministic
// machine. It is stepped with the time and one input and returns effects, which
// the edge (cmd/quorated) or the simulator (tools/sim) executes in the order
// given. Two nodes stepped alike answer alike.
//
// Of what is agreed it has a policy (who counts, and the witness's vote), a
// configuration, and the keys' names; it judges entries by these as of the entry, and
// its own links by what it knows now.
//
// It is level-triggered. After every input it compares what is agreed with what
// it knows (its kernel, its links, its peers' hellos, its running agents) and
// proposes what is missing; a proposal that was lost is made again. Entries are
// idempotent, so repeating one is harmless.
//
// It does not know which group orders for it. With a List it works by another
// rule than the majority's, for a group that neither elects nor remembers: see List.
//
// # The leader's duties
//
// Whoever leads the group proposes evictions (liveness' verdict, new boots,
// restarted daemons, overrun steps), admissions and what has to be switched on for
// them, expired leases, the ends of holds, the removal of joiners that do not finish,
// the votes that do not count any more, and the decision on a change of the
// configuration. Every member proposes for itself its lockspaces' answers, the fencing
// that it is the actor of, its word on a change, its leave, and what its operators ask
// for.
//
// # Without a quorum
//
// Where a rule lets fewer go on, nothing can be ordered: a takeover (takeover.go) has
// all others proved gone first, and what it did is the first entry of the next
// generation. Keys (keys.go) need no agreement: each node goes by what all have said.
package node
