// Package witness is the process of `quorated --witness`: it votes for any number of
// clusters, drives no kernel, and needs no privileges.
//
// # Files
//
// All below the state directory, mode 0700:
//
//	identity.pem          the witness's certificate and key, made at the first start
//	lock                  held by the process that serves
//	listen                the port it serves on, for `quorated --witness token`
//	tokens/DIGEST         a token that was made and not used: when it ends
//	clusters/ID/enrolment.json   what a cluster said of itself
//	clusters/ID/votes-N          its log, of the witness under its id N
//
// # Clusters apart
//
// Each cluster has its own goroutine, machine (voter) and store. A connection is
// given to the cluster whose id it says when one of that cluster's authorities
// signed its certificate, and to no other.
package witness
