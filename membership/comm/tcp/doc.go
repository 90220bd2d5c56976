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
// A listener that is not dialled asks why, on a connection that comes to nothing (askLoop):
// the other one may have another secret, or a configuration without this node.
//
// # The spare
//
// Between nodes with several links a second connection stands by, authenticated, on the
// first other link that carries, and says nothing. When the link of the pair's connection
// goes silent or loses long packets (Avoid, at either end) the spare takes its place in a
// round trip; where there is none, or it does not answer, another connection is dialled at
// once, over such links last. To the handler it is the end of one connection (ErrMoved) and the beginning of
// another: what was sent and not delivered is lost with the first, as with any that ends.
// The dialler alone chooses.
//
// # Who is believed
//
// Each daemon makes its own certificate when it starts, signed by the authority
// that both derive from the cluster's secret (membership/secret), with its
// cluster and node id in a URI: quorate://<cluster>/node/<id>. Both ends check
// signature, cluster and id: a dialled peer must be the one that was meant, an
// accepted one must be configured, and come from one of its configured addresses: a
// second machine with the id of another must not take its place. Clocks play no part.
// The secret can be changed at run time (SetSecret): it counts for handshakes, and
// connections that stand stay.
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
//	use      dialler -> listener, on a spare: it is the pair's connection now; answered by
//	         ready. The hello of the dialler says that a connection is a spare
//	ask      listener -> dialler, on a spare: use it
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
