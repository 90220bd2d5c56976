//go:build race

package sim

// raced: the race detector makes a simulation, which is a single goroutine, ten times
// slower and finds nothing in it. The phase sim of verify runs all without it.
const raced = true
