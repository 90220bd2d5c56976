// Package links says which links of a peer carry, where it has several. It is pure:
// it is stepped with the time and the prober's samples and returns what has changed.
//
// It convicts nobody: whether a peer lives is liveness's to say. It says which way to
// take to one that does. A link is silent when the peer has not answered on it for
// dead_after and went on answering on another. So neither a peer that is silent on all
// links, nor a pause of this node, makes a link silent.
//
// # Timeline
//
// With an interval I and dead_after D, of a link that dies at 0, of a peer that lives:
//
//	up to -I         the last answer on it
//	D-2I ... D       the answers on another link are D-I newer; the link is doubted
//	D-I  ... D+I     still so an interval later: Changed, silent
//
// The doubt is for a node that stood still: of the answers that wait for it, those on
// one link are read before those on the other.
//
// A silent link is told of again when the peer has answered on it as lately as on the
// others for D and two intervals: one that comes and goes is told of once.
//
// A link may lose long packets alone (membership.LongLoss). The prober says so and has made
// sure of it; here it is told of, at once, and such a link is one to avoid as long as the
// peer has another that is well. Of two that are both no good in this way neither is avoided.
//
// Paths chooses one link to each peer by that, for the route of the DLM's stable address.
package links
