// Package chaos does to a cluster on real kernels what plants do to theirs, at
// random and again by the same seed: nodes die and freeze, networks are cut,
// fence devices fail, state is lost, clocks jump, while programs append to files of GFS2
// and count on the shared disk under locks of the DLM. After each round everything
// has to run again by itself, and an audit looks at what all nodes told, at
// their kernels' logs and at the disk.
//
// A round's plan is a function of the seed and the round's number and nothing
// else (Draw). Which node leads when it comes to it is not; so a plan names
// roles where it means them.
package chaos
