package raft

import "errors"

// ErrCorrupt: a log that is damaged in the middle. What follows the damage cannot
// be trusted: reset the store, the node joins anew under a fresh raft id.
var ErrCorrupt = errors.New("log is damaged: reset the store and join anew")
