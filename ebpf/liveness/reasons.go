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

func (r reason) String() string { return reasonNames[r] }
