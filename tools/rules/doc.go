// Package rules holds the rules that this tree keeps, as functions of its
// source, each with the reason that a finding prints. Its test reads the tree and
// fails on the first change that breaks one.
//
// What is checked: who may import whom, which packages are pure (no clock, no
// goroutine, no I/O), that every package says what it is, that files stay small
// enough to be read in one go, and that no file names one machine's paths or
// hosts. Test files are free to wire as they like; only the last rule and the one
// about eBPF hold for them.
//
// The order of things: Read (the only I/O) makes Packages of a directory, and
// each rule is a pure function from those to findings.
package rules
