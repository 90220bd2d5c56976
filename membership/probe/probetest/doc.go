// Package probetest is the conformance suite of membership.Prober: what every
// provider promises, wherever it runs. A provider's test calls Run.
//
// The suite plays the peer itself where a peer must misbehave: it has the key,
// takes a node's place on the wire and answers, replays and forges at will.
// That something does not happen is seen by the prober's own count of probes,
// never by sleeping.
package probetest
