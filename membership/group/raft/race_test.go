//go:build race

package raft_test

// raced: the race detector makes a simulated group, which is a single goroutine, ten times
// slower and finds nothing in it. The phase sim of verify runs all without it.
const raced = true
