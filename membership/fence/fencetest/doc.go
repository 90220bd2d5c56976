// Package fencetest is the conformance suite of membership.Fencer, on a scripted
// fence agent that does what real devices do on bad days.
package fencetest
