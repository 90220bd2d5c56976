//go:build !race

package raft_test

const raced = false
