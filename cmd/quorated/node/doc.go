// Package node is everything that one quorated decides, with no I/O: it wires
// the pure cores (group, liveness, cluster, lockspace) into one deterministic
// machine. It is stepped with the time and one input and returns effects, which
// the edge (cmd/quorated) or the simulator (tools/sim) executes in the order
// given. Two nodes stepped alike answer alike.
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
// restarted daemons, overrun steps), admissions, expired fencing leases and the
// removal of joiners that do not finish. Every member proposes for itself its
// lockspaces' answers, the fencing that it is the actor of, and its leave.
package node
