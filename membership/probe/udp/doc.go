// Package udp is the Prober in user space: it sends and answers the probes of
// membership/probe over ordinary UDP sockets. It is what runs where XDP cannot,
// and what an XDP responder is compared with.
//
// # What an answer proves
//
// The daemon answers, not the kernel: a daemon that is stopped or starved looks
// like a silent kernel. Profiles must allow for that (architecture.md, 7). The
// answer's age is that of the daemon's last Progress.
//
// # Loops
//
// One socket for each own link address and one goroutine that answers probes and
// judges replies as they come on it; one more sends. They wait with the runtime's
// poller and make every call that cannot block as a raw one: each call that the
// runtime is told of wakes its monitor thread, which on a slow virtual machine
// was half of the daemon's CPU time. The daemon gives all its threads real-time
// priority, so these need none of their own. None ever waits for a peer, a lock
// that is held for long, or memory: the path of a packet does not allocate.
//
// A link whose own address is not there (yet) is tried again every second.
//
// # Order of checks on what arrives
//
// The kernel drops what has not the length and first bytes of a probe, or comes
// from no configured address, before it takes room in the socket's buffer. Then:
// form, key epoch, tag, destination, link and source; a probe then must not have
// come before, passes the rate limit of its peer and link and is answered to that
// peer's configured address; a reply must be for this instance, from the learnt
// instance, and fresh in its Window. Each refusal is counted by its reason.
package udp
