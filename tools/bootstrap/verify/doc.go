// Command verify runs the checks of this checkout, one phase after the other,
// and counts them: it is what `make test` and CI run.
//
//	verify [-full] [-seeds N] [-fuzztime D] [phase …]
//
// The phases, in order:
//
//	format     every Go file is as gofmt writes it
//	vet        go vet
//	lint       staticcheck, at a pinned version
//	generate   the objects below ebpf/ are what clang, at a pinned version, makes of
//	           their sources
//	patient    stories on real kernels that measure nothing, beside the next four
//	test       unit and property tests, with the race detector
//	sim        simulated clusters
//	fuzz       every fuzz target for a few seconds; they are found, not listed
//	bootstrap  a clone in a clean Debian root without Go builds (-full: runs the demo)
//	kernel     tools/lab and tools/accept on real kernels, one package at a time
//	others     short runs on other kernels, and the demo on each (only with -full,
//	           or by its name)
//
// The budget, on two processors, is 40 minutes, and 85 with -full:
//
//	minutes    plain  -full
//	lint         1      1    format, vet, lint and generate
//	test         7      7
//	sim          2     11    2,000 and 10,000 seeds, a quarter as many with a list of members
//	fuzz         3      8    2 s each; -full: 6 minutes, shared
//	bootstrap    2      2
//	patient     17     17    beside these four
//	kernel      24     34    -full: the stories that QUORATE_FULL adds, and
//	                         a round of tools/bench/recovery
//	others       -     10
//
// A virtual machine whose system calls take a microsecond needs half as much again:
// `make test` took 55 minutes on one.
//
// Each phase prints its name, its findings and its time; a failure does not keep
// the later phases from running. The last line is `N passed, N failed`, with
// `, N skipped` where something was skipped, and the status is 1 when anything
// failed. After Ctrl-C it ends with `, interrupted`, a line before it says what was
// cut and what never began, nothing is blamed for it, and the status is 1. A phase without any check is a failure, and with CI=true so is a test
// on real kernels that was skipped: what was not run has not passed. A test that is
// for -full alone (it says QUORATE_FULL when it is skipped) is named and not counted.
package main
