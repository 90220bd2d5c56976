package membership

// Group is one total order of entries, the same at all members.
//
// A Group is a deterministic machine: it is stepped with the time and one
// input and returns effects, which the caller executes in the order given. It
// never reads a clock, starts a goroutine or touches a file or socket.
//
// Promises:
//   - Deliver effects carry strictly growing indexes, and the same index
//     carries the same data at every node that delivers it (agreement).
//   - An entry is delivered only when it can never be lost (a quorum has it on
//     disk). Views are made of entries (membership/cluster), so every view is
//     quorate.
//   - A node that was away is first given Restore with the consumers' state as
//     of an index, if the entries before it are gone, and then every later entry.
//   - A Persist effect must be durable before any later effect of the same
//     slice is executed. If it fails the caller stops, or does as Diskless says.
//   - Propose may be lost (no leader, a full queue, a change of leader) and may
//     be delivered twice; the caller proposes again and its entries are idempotent.
//   - Nothing is delivered at a node outside the group's configuration, and
//     nothing anywhere without a quorum of it.
type Group interface {
	// Step takes inputs that came together: proposals among them are written and
	// sent together.
	Step(now Mono, in ...GroupInput) []GroupEffect
	// Deadline is when a GroupTimer input is due; 0 means not at all.
	Deadline() Mono
	Status() GroupStatus
}

// GroupStatus is what a group says of itself.
type GroupStatus struct {
	Formed    bool     // it has an identity and a log
	ClusterID string   // random, made once at formation
	Leader    NodeID   // 0: none known
	Term      uint64   // of the current leadership
	LastTerm  uint64   // of the last entry of the own log
	LastIndex uint64   // of the own log
	Applied   uint64   // last index delivered
	Voter     bool     // this node votes
	Voters    []NodeID // ascending
	Learners  []NodeID // ascending
	Waiting   string   // why nothing can be ordered now; empty when it can
	Do        string   // what an operator can do about it; empty: nothing that the group knows
	// Unvetted are the peers whose path is up and that may have to give up their log, for an
	// older one than somebody saw of it, and to start anew for that; ascending. Until they
	// have said more they take no part, and are admitted to nothing.
	Unvetted []NodeID
	// Rivals are the nodes that went on without this one while this one did without them,
	// by what they said last, heard or not; ascending. What both order is not one order.
	Rivals []NodeID
}

// GroupInput is one of the inputs below.
type GroupInput interface{ groupInput() }

// GroupTimer says that the deadline has come.
type GroupTimer struct{}

// GroupLink says that the path for messages to a peer came up or went down.
// Messages sent before the last GroupLink{Up: true} may be lost.
type GroupLink struct {
	Peer NodeID
	Up   bool
}

// GroupReceive is a message from a peer's group.
type GroupReceive struct {
	From NodeID
	Data []byte
}

// GroupPropose asks for an entry to be ordered.
type GroupPropose struct{ Data []byte }

// GroupJudge is what liveness knows that a group may act on. It is given
// whenever any of it changes.
type GroupJudge struct {
	// Hears are the peers that answered this node within dead_after.
	Hears []NodeID
	// Dead are the peers that this node has convicted; their traffic of this
	// incarnation is dropped until they are heard again.
	Dead []NodeID
	// LeaderDead: a majority of the members, this node among them, report the leader silent.
	LeaderDead bool
	// LeaderStalled: the leader's kernel answers and its daemon's progress has
	// stood for about three heartbeats: replace it, do not evict it.
	LeaderStalled bool
	// Stalled are the peers among Hears whose daemons have stood still for stall_limit, as
	// this node alone sees it, and whose freeze was not announced. It evicts nobody: where
	// nothing can be agreed without one of them, a GroupForce may do without it.
	Stalled []NodeID
	// Barred: this node was evicted, or its disk failed. It never campaigns.
	Barred bool
	// Rank orders the survivors for the election: 0 campaigns at once, each
	// higher rank later by a round trip and a write.
	Rank int
}

// GroupHandOver asks a leader to give leadership to another member that is complete.
type GroupHandOver struct{ To NodeID }

// GroupCompact gives the consumers' state as of an applied index, so that the
// log before it may be dropped.
type GroupCompact struct {
	Index uint64
	State []byte
}

// GroupForce is for a fenced reconfiguration (S16), in two steps. Without Data it asks
// these nodes, this one among them, for their word that they go on with this one alone;
// when all have given it (Pledged) the others may be fenced. With Data, the first entry
// that is ordered then, they go on without the others, who are proved gone. Without
// Nodes it is given up. Where nothing comes of it, it is given again.
type GroupForce struct {
	Nodes []NodeID
	Data  []byte
}

// Forcer is a Group that can be forced.
type Forcer interface {
	// MajorityRuns says that a majority of the voters is heard, and that of its daemons all
	// go on besides those of these nodes. Then nobody has to be forced.
	MajorityRuns(nodes ...NodeID) bool
	// MayForce says why these nodes may not go on without the others, whatever is
	// proved; empty: they may.
	MayForce(nodes []NodeID) string
	// Pledged says that all of them have given this node their word.
	Pledged(nodes []NodeID) bool
	// Undelivered are the entries of the own log that were not delivered: any of them may
	// have been ordered, and others may work by it.
	Undelivered() [][]byte
}

func (GroupForce) groupInput()    {}
func (GroupTimer) groupInput()    {}
func (GroupLink) groupInput()     {}
func (GroupReceive) groupInput()  {}
func (GroupPropose) groupInput()  {}
func (GroupJudge) groupInput()    {}
func (GroupHandOver) groupInput() {}
func (GroupCompact) groupInput()  {}

// GroupEffect is one of the effects below, to be executed in order.
type GroupEffect interface{ groupEffect() }

// Diskless is a Group that can do without durable records. When a Persist fails,
// the caller executes no Send that comes after it in the slice and does all else;
// then, before any other input, it calls DiskLost, steps the Group, and executes no
// Persist any more. False: the Group cannot go on either, and the caller stops.
type Diskless interface {
	DiskLost(why string) bool
}

// GroupPersist hands a record to the provider's own store. It must be durable
// before any later effect is executed.
type GroupPersist struct{ Record any }

// GroupSend sends bytes to the same group on a peer; it may be lost.
type GroupSend struct {
	To   NodeID
	Data []byte
}

// GroupDeliver gives the next entry of the total order.
type GroupDeliver struct {
	Index uint64
	Term  uint64
	Data  []byte
}

// GroupRestore replaces the consumers' state by that of an index. An empty
// State is the state before the first entry.
type GroupRestore struct {
	Index uint64
	State []byte
}

// GroupTrace is a line for the event log: formed, leader changed, campaign …
type GroupTrace struct {
	Kind string
	Text string
}

func (GroupPersist) groupEffect() {}
func (GroupSend) groupEffect()    {}
func (GroupDeliver) groupEffect() {}
func (GroupRestore) groupEffect() {}
func (GroupTrace) groupEffect()   {}
