// Package voter is what a witness is to one cluster: a voter of its group, and
// nothing else, as a deterministic machine without I/O. It speaks to the nodes as
// cmd/quorated/node does, takes that package's inputs and returns its effects:
// Persist, Send and Emit. It reads no entry: it has no view, knows no lockspace,
// judges nobody, and drives no kernel.
//
// It answers pings, by which nodes know that it is heard, and takes a node for heard
// for as long as the node's last ping said.
//
// # Who leads
//
// Its group (raft.Config.Witness) leads only when its log has what no node that is
// left has, and then gives that, and leadership, to a node. It grants votes by the
// rules of raft; a leader that it has not heard for Backstop is forgotten, so that
// the other node of a pair can be elected.
//
// # Its log
//
// A leader gives the consumers' state to a witness when it makes a snapshot. The
// witness keeps it as opaque bytes in its own snapshot, and drops the log before it.
package voter
