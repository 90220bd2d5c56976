// Package udp is the Prober: it sends the probes of membership/probe over ordinary UDP
// sockets, judges the answers, and answers those probes that no program of ebpf/liveness
// has answered before they came to a socket. It runs always, and is what that program is
// compared with.
//
// # What an answer proves
//
// The daemon answers here, not the kernel: a daemon that is stopped or starved looks
// like a silent kernel, and the times that are configured must allow for that where no
// program answers. The answer's age is that of the daemon's last Progress.
//
// # When an answer came
//
// Where the kernel takes answers in (Options.Arrivals, ebpf/liveness), they come to no
// socket. The prober looks at what it has of each peer and link before each probe, and
// whenever it is asked: Heard and round trips are by when the kernel saw the answer, however
// late that is looked at. So what came while the daemon was starved is no silence, and what
// was silent before it looks is. Of several between two looks only the newest one's arrival is
// known: the others are answered probes without a round trip. Elsewhere an answer comes when
// it is read.
//
// # Loops
//
// One socket for each own link address and one goroutine that answers probes and
// judges replies as they come on it; one more sends, to all peers in one go, so that the
// round trips of the last have the time that it took to send to the others. They wait with the runtime's
// poller and make every call that cannot block as a raw one: each call that the
// runtime is told of wakes its monitor thread, which on a slow virtual machine
// was half of the daemon's CPU time. Wakings are what is left, so there are as few as can
// be: who runs every interval anyway sends the probes (Turn), the sender wakes when nobody
// did, and a reader rests while there is nothing short to read (inbox): its long probes are
// read by who sends. The daemon gives all its threads real-time
// priority, so these need none of their own. None ever waits for a peer, a lock
// that is held for long, or memory: the path of a packet does not allocate.
//
// A link whose own address is not there (yet) is tried again every second.
//
// # Long probes
//
// Nothing that is sent may be fragmented. How long the long probes to a peer are the
// kernel says: the MTU of its way from the link's address to the peer's, which is the
// interface's or what a route or a router made of it. It is asked every few seconds, so
// that a change is followed; the rounds begin anew then. A long probe takes its
// place in the rate of answers as any other.
//
// # Hints
//
// Hurry has a peer probed four times as often for a while, since something else hints that
// the way to it may be bad. That is within its rate of answers, makes no answer late, and
// changes nothing of what liveness concludes from answers, or from none: all that comes
// of it is that the last answer is younger when there are no more, so that the nodes that
// observe a death agree sooner, and that one that lives is heard sooner. At most half of the
// time is hurried, whatever comes.
//
// # Order of checks on what arrives
//
// The kernel drops what has not a length and the first bytes of a probe, or comes
// from no configured address, before it takes room in the socket's buffer. Then:
// form, key epoch, tag, destination, link and source; a probe then must not have
// come before, passes the rate limit of its peer and link and is answered to that
// peer's configured address; a reply must be for this instance, from the learnt
// instance, and fresh in its Window. Each refusal is counted by its reason.
package udp
