package liveness

import (
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/quorum"
)

// Config is what a Machine is made of.
type Config struct {
	Self   membership.NodeID
	Nodes  []membership.NodeID // all configured nodes
	Timing membership.Timing
	Policy quorum.Policy
	// AnyLink says that the DLM's address is reachable over every link (a /32 on
	// a dummy interface, routed over all of them). Else the loss of link 0, the
	// path of the DLM's address, is a cut although other links still answer.
	AnyLink bool
	// Instance is this run of the daemon, put into its own rows.
	Instance uint64
}

// Row is one node's line of the matrix: how long ago each peer answered it.
type Row struct {
	From  membership.NodeID `json:"from"`
	Round uint64            `json:"round"` // grows with every row of one instance
	View  uint64            `json:"view"`  // the view that the sender is in
	Ages  []Age             `json:"ages"`  // by ascending node id, the sender left out
	// LastTerm and LastIndex are the end of the sender's log; they rank survivors.
	LastTerm  uint64 `json:"last_term"`
	LastIndex uint64 `json:"last_index"`
	Instance  uint64 `json:"instance"`
}

// Age is one cell of the matrix, as of the moment at which the row was made.
type Age struct {
	Peer membership.NodeID `json:"peer"`
	// Age is the time since the peer's kernel last answered on any link. A peer
	// that never answered has -1 until the sender has looked for dead_after, then
	// the time for which it has looked.
	Age time.Duration `json:"age"`
	// Path is the same for the path of the DLM's address, link 0.
	Path time.Duration `json:"path"`
	// DaemonAge is the time since its daemon's last progress, when it last answered.
	DaemonAge time.Duration `json:"daemon_age"`
	Instance  uint64        `json:"instance"`
}

// Input is one of the inputs below.
type Input interface{ input() }

// Observed is the prober's newest snapshot. Every judgment is made in a step
// with this input, and none elsewhere. It is due at every Deadline.
type Observed struct {
	Samples []membership.Sample
	// Blocked are peers whose probes say nothing of the DLM's path: its data to them
	// stay unanswered (S10). Their Path is silent as long as they are named.
	Blocked []membership.NodeID
}

// RowIn is a row from a connected peer.
type RowIn struct{ Row Row }

// ViewIn is a delivered view, and how many lockspaces each member holds.
type ViewIn struct {
	View   membership.View
	Weight map[membership.NodeID]int
}

// LogIn is the end of the own log, for the own row and the rank.
type LogIn struct{ Term, Index uint64 }

// Leader is the group's leader; 0: none known. The one before is judged until there is
// another: that the group follows nobody, as soon as one asks for votes, takes no
// accusation back.
type Leader struct{ Node membership.NodeID }

// RecoveryWait names the nodes that a lockspace change waits for now. It
// replaces the former list.
type RecoveryWait struct{ Nodes []membership.NodeID }

// Anew says that a node has booted anew: how often its earlier lives were evicted
// says nothing about its links now.
type Anew struct{ Node membership.NodeID }

// PolicyIn replaces the policy: who has a vote has changed.
type PolicyIn struct{ Policy quorum.Policy }

// WitnessIn says whether the policy's witness is heard: then its vote counts wherever
// this node's own judgment needs a quorum.
type WitnessIn struct{ Heard bool }

// Maintenance announces work on the whole cluster: what Hold does for one member
// it does for all, those too who come in meanwhile.
type Maintenance struct{ Until membership.Mono }

// Hold announces a freeze of a member: it is not suspected before Until, and then
// only after a further dead_after. An Until that has come ends a hold. It ends
// with the member's incarnation, too.
type Hold struct {
	Node  membership.NodeID
	Until membership.Mono
}

func (Observed) input()     {}
func (RowIn) input()        {}
func (ViewIn) input()       {}
func (LogIn) input()        {}
func (Leader) input()       {}
func (RecoveryWait) input() {}
func (Anew) input()         {}
func (PolicyIn) input()     {}
func (WitnessIn) input()    {}
func (Hold) input()         {}
func (Maintenance) input()  {}

// Effect is one of the effects below, to be executed in order.
type Effect interface{ effect() }

// SendRow sends the own row to all connected peers.
type SendRow struct{ Row Row }

// Suspected says that this node has not heard a member for dead_after. Path:
// its kernel answers on another link, and the DLM's path is silent.
type Suspected struct {
	Node   membership.NodeID
	Silent time.Duration
	Path   bool
}

// Cleared takes a suspicion back: the node answers again. A suspicion of a node
// that has left the view ends without it.
type Cleared struct{ Node membership.NodeID }

// Convicted is this node's verdict: whom to evict, and why, by ascending node
// id. It may name this node itself (safety rule S8). It is emitted when it
// changes and every second while it stands; an empty one takes it back, and so
// does a new view, silently.
type Convicted struct{ Departures []membership.Departure }

// QuorumChanged says whether the members that this node hears, itself included,
// are a quorum; outside the view the configured nodes are counted. It is about
// links alone: whether this node is a member is the view's to say. A new Machine
// has no quorum.
type QuorumChanged struct {
	Have bool
	Text string
}

// Paused says that this node did not look for so long, or asked nobody: Mute. What it
// would have concluded from that time is discarded, and of what follows, for as long as it
// asks nobody.
type Paused struct {
	For  time.Duration
	Mute bool
}

// JudgeChanged is what the group may act on; the caller fills in Barred.
type JudgeChanged struct{ Judge membership.GroupJudge }

func (SendRow) effect()       {}
func (Suspected) effect()     {}
func (Cleared) effect()       {}
func (Convicted) effect()     {}
func (QuorumChanged) effect() {}
func (Paused) effect()        {}
func (JudgeChanged) effect()  {}
