// Package rotation decides how the cluster's keys change while everything runs
// (S26): who is handed which key, when sending switches to it, when an old one is
// dropped. It is a deterministic machine, stepped with the time and one input. It
// knows keys by their epoch and fingerprint alone; the material never gets here.
//
// # Words
//
// A node has keys loaded, four at most. It sends with the first and accepts all. A
// Word is what it says of that to the others, with its plan: the key that is to
// take over. A node says that it has a key when that is durable and accepted, and
// that it sends with one when it does.
//
// # The order of things
//
//  1. A node draws a key of the next epoch and has a plan for it. Who hears of a
//     newer plan than its own makes it its own.
//  2. Every node that has the plan's key hands it to the connected ones whose words
//     lack it. One that was away is handed it when it comes back, over a connection
//     that the old key made.
//  3. A node whose key it is not yet sends with it when the newest words of all
//     configured nodes have it, whether they are connected or not: what was said
//     once is durable.
//  4. When all nodes have said that they send with it, and DropAfter later, each
//     drops the older ones, which ends the plan.
//
// # By force
//
// A plan with Now leaves those out who have been away for AbsentAfter. Who is
// connected is always waited for: it would neither understand probes nor be
// understood, and be taken for dead. A node that was left out comes back when its
// operator has copied the key file there. Nothing drops a key that a connected
// node sends with.
//
// # Taking back
//
// An operator may have a key dropped everywhere, that of a plan too. Each node that
// is told first says no more that it has it, and drops it when no connected one says
// so: one that had decided to send with it meanwhile says that instead, and the
// discard is off.
//
// # Two at once
//
// Keys are ordered by epoch, then by fingerprint. Two rotations that begin at the
// same time draw different keys of one epoch. The greater fingerprint takes the
// place of the other, everywhere: nobody sends with a key before everybody has it,
// and a node that has one of an epoch only ever exchanges it for a greater one, so
// a key that all have had is the greatest there is.
package rotation
