// Package static is the Group for one node, or for a fixed list of nodes
// without fault tolerance: the DLM and nothing else.
//
// One node: an entry is delivered as soon as it is proposed. Nothing is
// durable; a restart begins again at the state before the first entry, which is
// right for one node, whose kernel state and whose log have one life.
//
// Several nodes: the lowest listed one is the sequencer. It numbers what is
// proposed and sends it to the others over the links; a node that (re)connects
// is given the consumers' state and everything after it, and so is one that
// missed a message: the others tell the sequencer every second where they are. When the sequencer is
// lost nothing is ordered any more, and no other takes its place: there is no
// quorum, no election and no memory, so nobody may be evicted and fenced by it.
// A list that changes restarts nothing: entries go on under the same sequencer
// for as long as it is the lowest listed node, and stop otherwise. An entry is
// delivered at the sequencer when it is ordered, before the others have it; a
// sequencer that restarts begins a new run, and the others start again with it.
//
// So it does not keep Group's promise that an entry which was delivered is never
// lost: a new run has forgotten every entry of the one before, views, members
// and evictions among them. Who uses it has to be safe without them: let nothing
// begin before every listed node has been seen in the new run with empty hands
// (cmd/quorated/node does).
package static
