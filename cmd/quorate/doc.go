// Command quorate is the operator's tool: it asks the daemon on this node over
// its control socket and prints the answer, for people or as JSON.
//
// Exit status: 0 all is well, 1 degraded or the command was refused, 2 blocked
// (something waits and an operator should look), 3 quorated does not answer, 64
// wrong usage, 77 not permitted.
package main
