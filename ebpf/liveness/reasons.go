package liveness

// Reason is what became of a packet, as enum reason of bpf/maps.h has it.
type reason uint32

const (
	passOther reason = iota
	passFragment
	passHeader
	passAddress
	passLength
	passForm
	passUnready
	passKey
	dropTag
	dropDst
	dropLink
	passSource
	dropSpoofed
	passPort
	passReply
	dropReplay
	dropRate
	passTrial
	broken
	dropHeard
	answered
	reasons
)

// reasonNames are those of membership/probe/udp where it refuses for the same.
var reasonNames = [reasons]string{
	"other", "fragment", "header", "address", "length", "form", "unready", "key_epoch", "tag", "destination", "link",
	"source", "spoofed", "port", "reply", "replay", "rate", "trial", "broken", "heard", "answered",
}

// drops are what takes a packet away that claims to be a probe or an answer and is refused.
// What is passed on the daemon sees, and counts.
var drops = []reason{dropTag, dropDst, dropLink, dropSpoofed, dropReplay, dropRate}

func (r reason) String() string { return reasonNames[r] }
