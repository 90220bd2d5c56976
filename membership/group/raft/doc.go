// Package raft is the default Group: one total order kept by a majority of
// voters with a durable log, on go.etcd.io/raft/v3.
//
// Machine is the pure core. It owns a raft.RawNode and a memory copy of the log,
// reads no clock, draws no random number and starts no goroutine: the same
// inputs give the same effects, byte for byte. Store is the edge: it writes the
// records of GroupPersist effects, and gives back at start what it wrote.
//
// # Identity
//
// A voter is a random 64-bit raft id, not a node number. It is persisted before
// it is first announced and dies with its store: a node whose log was lost
// returns under a new id as a learner, is promoted when it has caught up, and
// the same change removes its old id, which is refused from then on. A node
// that never formed and is wiped is simply another empty node.
//
// # First start
//
// When all configured nodes are connected, all are empty and all hold the same
// configuration, the lowest makes a cluster id and a genesis (a snapshot at
// index 1, term 1, that maps raft ids to nodes) and hands it out. An empty node
// adopts only a genesis that names its own present raft id; under that id it
// has never acknowledged anything.
//
// # Restart
//
// A node with a log says hello and takes no part, neither voting nor
// acknowledging, until a majority of the voters (itself counted) have said what
// they saw from it. The voters are those of the newest configuration that it knows
// to be ordered: its own log's, or one that a peer says it has applied, since whom the
// log names may have been taken out while the node was away. When one saw more than
// the log holds, the log went back in time: Fault is ErrRolledBack and the node never
// takes part under that id.
//
// # Without a disk
//
// A machine that was told of a record that could not be written (DiskLost) votes no more,
// and acknowledges nothing that is not ordered without it. The leader makes a learner of
// it, and it follows from memory.
//
// # Elections
//
// Raft's random election timeouts are never used: only a leader is ticked. A
// follower forgets a leader that was silent for Backstop and campaigns at a
// seeded moment after it; that is the backstop. The detector (GroupJudge) is
// the driver: on conviction traffic of the leader is dropped, it is forgotten,
// rank 0 steps MsgTimeoutNow to itself at once, the others follow by rank, and
// all retry until there is a leader.
//
// # Who votes
//
// The leader makes voters of the configured nodes that are in the electorate
// (SetNodes, SetElectorate) and of a witness, and takes out the others' ids. A witness
// (Config.Witness) has no consumers: it makes its snapshots of the state that the leader
// gives it, and leads only to hand over what it alone has.
//
// # Fewer than a majority
//
// Half of the voters can be forced to go on (GroupForce): each gives its word, durably,
// and the next Generation is one record, after which all others are out of the
// configuration. A log of an earlier generation is given up (ErrReplaced); two of the
// same number are rivals: each is in the other's Status until one side has given up its
// log, node by node, which an operator chooses (Rejoin). A node without a log waits for that.
//
// # Order of effects
//
// A leader's appends are sent before its own Persist; what depends on the own
// disk (acknowledgements, votes) is sent after it; Deliver comes after the
// Persist of its entry. A change of the commit index alone is not persisted.
package raft
