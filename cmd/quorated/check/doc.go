// Package check is `quorated -check`: everything that would keep this node from
// joining, or from being of use when it matters, one line each.
//
//	ok  the thing and what was seen
//	!!  what is wrong — what to do
//	--  something to know, that keeps nothing from working
//
// It changes nothing, and can be run beside a running daemon: then the ports are
// the daemon's, and no connection is made to the DLM's port, because the peer's
// kernel could take it for the one of this node's kernel. Whether the other daemons
// would talk to this node is tried without a connection that they count.
package check
