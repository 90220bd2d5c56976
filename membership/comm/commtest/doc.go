// Package commtest is the conformance suite of membership.Comm: what every
// provider promises, whatever carries the bytes. A provider's test calls Run.
//
// Recorder is a handler that checks the order of calls as they come and lets a
// test await what it wants to see; nothing in the suite sleeps for luck.
package commtest
