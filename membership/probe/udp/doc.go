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
// # Threads
//
// One socket for each own link address, and two OS threads of their own: the
// sender spreads the probes of one interval over it, so that peers are not
// asked in bursts; the reader answers probes and judges replies as they come.
// Both ask for SCHED_FIFO and say in Status when they did not get it. Neither
// ever waits for a peer, a lock that is held for long, or memory: sending is
// MSG_DONTWAIT, and the path of a packet does not allocate.
//
// A link whose own address is not there (yet) is tried again every second.
//
// # Order of checks on what arrives
//
// Form, key epoch, tag, then destination, link and source; a probe then passes
// the rate limit of its peer and link and is answered to that peer's configured
// address; a reply must be for this instance, from the learnt instance, and
// fresh in its Window. Each refusal is counted by its reason.
package udp
