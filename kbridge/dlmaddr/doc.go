// Package dlmaddr keeps the stable address of this node's DLM, and the routes to those of
// the others.
//
// The kernel's DLM has one TCP connection to each peer, between the first addresses of
// their comms entries, and binds its end to its own (fs/dlm/lowcomms.c, Linux 6.1 to 7.x).
// An address of a link dies with the link. A stable address is a /32 (IPv6: /128) that
// belongs to no link: it is on a dummy interface, or on lo where the kernel has no dummies,
// and each node has for each peer one route to it, by way of the peer's own address on a
// link:
//
//	address  10.99.0.1/32 dev quorate-dlm
//	route    10.99.0.2/32 via 10.0.0.2 dev eth0 src 10.99.0.1 proto 113 metric 64
//	guard    unreachable 10.99.0.0/24 proto 113 metric 4096
//
// When that link dies the route is pointed at another: one RTM_NEWROUTE with
// NLM_F_REPLACE, so that at no moment there is none, or two. TCP finds the new way when it
// sends again, and the connection goes on. Which link is taken is somebody else's to
// decide (membership/links).
//
// The guard is for the time in which an interface is down and the kernel has taken its
// routes away: else the DLM's packets would follow the default route to wherever that
// leads, and be lost without a word.
//
// # Order
//
// Plan compares and is pure: the address comes first, since the routes name it as their
// source; the guard before the routes that it guards; what is not wanted goes last. What
// is there already is left alone, so that applying it twice does nothing, and a daemon
// that starts adopts what its predecessor left. A Keeper looks again every second, since
// others may change the kernel's tables too. Nothing is removed but by Remove, at a
// clean leave: while lockspaces run, with or without a daemon, the address has to stay.
package dlmaddr
