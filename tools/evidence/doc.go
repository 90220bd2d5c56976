// Command evidence keeps the table of docs/evidence.md: which faults were tried,
// where, how often in a run, and what was found.
//
//	go run ./tools/evidence       # what is wrong with the table; status 1 if anything
//	go run ./tools/evidence -w    # puts it right  (make evidence)
//
// A row is written by hand, one line:
//
//	| the fault | where it is tried | | what was found and mended |
//
// The second column has words in backticks that are looked up in the sources:
//
//	`random isolate`                a kind of the simulator's random faults
//	`scenario kill-leader`          a file in tools/sim/testdata
//	`TestCuts/the leader is cut off`  a story on real kernels, in tools/accept
//	`raft.TestStoreDamage`          another test, by the last word of its package's path
//
// The third, how often, is computed from them. With -w a story or scenario that no row
// speaks of gets a row of its own at the end, to be completed or moved by hand; a
// word that stands for nothing has to be mended by hand. The package's test is that
// there is nothing to do.
package main
