// Package witness is the way between the nodes of a cluster and its witness: the
// token that introduces them, the witness's certificate, and the connection.
//
// # Who is believed
//
// A witness has a certificate of its own making and never the secret of a cluster. A node
// knows the fingerprint of that certificate, from the token at first and then from the
// agreed state, and talks to nobody else. The witness knows the authorities of the
// clusters that were enrolled, by their public parts, and talks to whoever has a leaf
// of one of them that names cluster and node: see membership/comm/tcp, whose leaves
// these are. A node is enrolled with a token, once; authorities that come later (a
// rotated key) are handed over on a connection that an earlier one has vouched for.
//
// # On the wire
//
// Nodes dial. Inside TLS 1.3 everything is a frame: length of what follows (4
// bytes, big endian), type (1 byte), body.
//
//	hello    node -> witness, at most 64 KiB of JSON: who I am (Hello)
//	ready    witness -> node: JSON (Ready); an enrolment ends here
//	refuse   instead of it: JSON (Refusal); the end
//	message  either way, at most membership.MaxMessage: as between daemons
//
// All up to ready must be done within five seconds. A connection that does not
// answer for twelve is ended.
package witness
