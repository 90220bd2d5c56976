// Package tcp is the Comm over TCP and mutual TLS 1.3.
//
// # Who connects
//
// Of each pair the node with the lower id dials, the other listens. It dials
// every address of the peer, from its own address of the same link, the first
// at once and each next one a little later; the first connection that comes up
// is used. It tries again after 100 ms, then more slowly up to 1 s, or at once
// when told to (Kick). One connection carries a pair; a new authenticated one
// replaces the old at once, so a peer that vanished without a word and came
// back is never kept waiting for a time-out.
//
// # Who is believed
//
// Each daemon makes its own certificate when it starts, signed by the authority
// that both derive from the cluster's secret (membership/secret), with its
// cluster and node id in a URI: quorate://<cluster>/node/<id>. Both ends check
// signature, cluster and id: a dialled peer must be the one that was meant, an
// accepted one must be configured, and come from one of its configured addresses: a
// second machine with the id of another must not take its place. Clocks play no part.
//
// # On the wire
//
// Inside TLS everything is a frame: length of what follows (4 bytes, big
// endian), type (1 byte), body.
//
//	hello    listener -> dialler, at most 1 KiB: who I am (see hello)
//	hello    dialler -> listener, once it accepts the listener
//	ready    listener -> dialler, once it accepts the dialler: both are connected
//	refuse   instead of the second hello or ready: code and words; the end
//	message  either way, at most membership.MaxMessage
//
// The listener speaks first, when it has checked the dialler's certificate, so
// that a refusal is never lost in a reset of the connection. All up to ready must
// be done within five seconds. A stranger without the secret never gets past TLS;
// how many may try at once, and in a second, is bounded, apart for each of the
// configured addresses and for all others, so that strangers neither keep peers
// out nor use up the processor.
//
// # A dead connection
//
// Unacknowledged data, unanswered keepalives or a receiver that takes nothing
// for twelve seconds end a connection. That is for hygiene: whether a peer lives
// is the probers' to say, and who knows better ends it with Drop.
package tcp
