// Package grouptest is the conformance suite of membership.Group.
//
// A Sim runs several groups in one goroutine on virtual time: a network that
// delays, loses, duplicates and reorders messages, cuts between nodes, disks
// whose writes take time, crashes between any two effects, and a detector that
// knows the truth a little late. Everything comes from one seed, so that a
// failure is a number.
//
// While it runs, each effect is checked against the promises in
// membership/group.go: the same index is the same data everywhere, nobody skips
// an entry that another has, a restored state is the state of that index,
// indexes grow, one leader a term, an entry that was delivered is on the disks
// of a majority. Run then heals the network and asks for progress.
package grouptest
