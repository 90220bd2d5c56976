// Package secret is the cluster's one shared secret: a small text file, the
// same on every node, readable by root alone.
//
// # The file
//
// Each line is one key: a version word, the key's epoch and 32 random bytes.
//
//	quorate-key-1 1 <43 characters of unpadded base64url>
//
// Blank lines and lines that begin with # are ignored. The first key is the one
// that a node sends with; every key of the file is accepted from peers. So a
// rotation is three rounds over all nodes, in any order within each: append the
// new line everywhere, move it to the top everywhere, remove the old one
// everywhere. At most MaxKeys keys, at most MaxFile bytes.
//
// The daemon does these rounds by itself for a key that `quorate key rotate` made
// (membership/rotation); its line has a fourth word, rotated. A File is how it
// changes the file: as a whole, durably, all other lines kept.
//
// # What is made of it
//
// HKDF-SHA256 derives per epoch, each under its own label: the ed25519 key of
// the authority that signs the daemons' TLS certificates, and the SipHash-2-4
// key of the probes. Whoever has the file is the cluster: it can sign a
// certificate for any node, so a node that was stolen means a rotation.
//
// Certificates are valid from 1970 to 9999 and are checked at the constant
// CheckTime, so no step of a clock and no dead RTC battery keeps a node out.
//
// Key material is behind pointers and all formatting is redacted: no %v, %+v,
// %#v, JSON or slog call shows it.
package secret
