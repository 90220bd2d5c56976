package membership

// Event is one line of a node's event log: what happened, to whom, when by this
// node's clock. The kinds are the words that operators search for.
type Event struct {
	Seq       uint64            `json:"seq"`
	Node      NodeID            `json:"node"` // where it was seen
	Mono      Mono              `json:"mono"` // CLOCK_BOOTTIME of that node, ns
	Wall      string            `json:"wall,omitempty"`
	Kind      Kind              `json:"kind"`
	Subject   NodeID            `json:"subject,omitempty"` // the node it is about
	Lockspace string            `json:"lockspace,omitempty"`
	Change    uint64            `json:"change,omitempty"`   // number of the lockspace's change
	Index     uint64            `json:"index,omitempty"`    // in the total order, for what is agreed
	View      uint64            `json:"view,omitempty"`     // view number
	Incident  string            `json:"incident,omitempty"` // the same on every line of one incident: e<index of the eviction>
	Text      string            `json:"text,omitempty"`
	Fields    map[string]string `json:"fields,omitempty"`
}

// Kind is the kind of an event.
type Kind string

// The kinds, in the order in which a recovery shows them.
const (
	KindUp               Kind = "up"           // the daemon started
	KindFormed           Kind = "formed"       // the cluster got its identity
	KindInit             Kind = "init"         // an operator gave up a lost log
	KindLeader           Kind = "leader"       // another leader
	KindCampaign         Kind = "campaign"     // this node asks for votes, to lead
	KindPeer             Kind = "peer"         // connection to a peer came or went, or was refused
	KindLink             Kind = "link"         // a link to a peer went silent while another did not, or carries again
	KindReflector        Kind = "reflector"    // something else answers the others' probes here, or it was taken away
	KindSuspect          Kind = "suspect"      // a peer was silent for dead_after
	KindCleared          Kind = "cleared"      // a suspicion was withdrawn
	KindConvicted        Kind = "convicted"    // all who could hear it agree
	KindHold             Kind = "hold"         // a freeze of a member was announced, or is over
	KindMaintenance      Kind = "maintenance"  // one of the whole cluster was announced, or is over
	KindKey              Kind = "key"          // a key of the cluster was loaded, took over, or went
	KindDrain            Kind = "drain"        // a member was asked to leave when it can, or not any more
	KindConfig           Kind = "config"       // a change of the configuration: proposed, in force, given up
	KindEvicted          Kind = "evicted"      // the eviction was delivered
	KindView             Kind = "view"         // a new view
	KindWitness          Kind = "witness"      // the witness was added, removed, heard, or is silent
	KindQuorum           Kind = "quorum"       // own quorum lost or back
	KindTakeover         Kind = "takeover"     // fewer than a quorum may go on, when the others are proved gone
	KindFenceStart       Kind = "fence-start"  // an actor is about to run an agent
	KindFenceEnd         Kind = "fence-end"    // it ended, and how
	KindFenced           Kind = "fenced"       // proof: the incarnation is gone
	KindLied             Kind = "lied"         // a fence device said so, and the node still answers
	KindUnfence          Kind = "unfence"      // devices of a node that boots are switched on
	KindChange           Kind = "change"       // a lockspace change began
	KindStopped          Kind = "stopped"      // the kernel lockspace is stopped here
	KindOpened           Kind = "opened"       // all stopped, quorate, proved: start
	KindStarted          Kind = "started"      // control=1 was written here
	KindRecovered        Kind = "recovered"    // the kernel's own recovery is done here
	KindDone             Kind = "done"         // the change is complete everywhere
	KindMount            Kind = "mount"        // a file system was mounted or unmounted here
	KindJournal          Kind = "journal"      // a file system replayed a journal
	KindJoin             Kind = "join"         // a mount or program here asked to join a lockspace
	KindJoined           Kind = "joined"       // and it is in
	KindJoinFailed       Kind = "join-failed"  // or was refused
	KindLeave            Kind = "leave"        // the last user here left a lockspace
	KindLeft             Kind = "left"         // and it is out
	KindUncontrolledKind      = "uncontrolled" // kernel lockspaces that are not ours
	KindRefused          Kind = "refused"      // a peer, a message or a command was refused
	KindDegraded         Kind = "degraded"     // something works less than it should
	KindBroken           Kind = "broken"       // an invariant does not hold: the daemon stops
)
