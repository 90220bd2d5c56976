// Package membership is the vocabulary of a cluster that shares storage, and
// the contracts between its parts: who orders entries (Group), who carries
// bytes (Comm), who sees whether a peer lives (Prober), who cuts a node off
// (Fencer) and who is told (Consumer).
//
// It does no I/O, holds no clock and imports the standard library alone.
// Each contract is a small interface whose ordering guarantees stand in its
// doc comment; each has a conformance suite under membership/…test that every
// provider passes. Providers import this package and never each other.
//
// # How a fact becomes a decision
//
// A Prober reports when each peer last answered. The pure core
// membership/liveness turns that, and what the other members report, into
// suspicion and conviction. The leader proposes an eviction to the Group; when
// it is delivered, membership/cluster makes a new view of it at every member,
// and the consumers (lockspaces, POSIX locks) see the same views and the same
// messages in the same order. Fencing is asked for by the ledger in
// membership/cluster and its proof is an entry like any other.
package membership
