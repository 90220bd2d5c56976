// Package probe is the wire format of the liveness probes: one UDP datagram of
// fixed length each way, authenticated with SipHash-2-4, made so that an XDP
// program can answer it in the kernel without a loop or a variable offset.
//
// # Layout
//
// Size is 96 bytes. All integers are little endian and lie at a multiple of
// their size. A reply is the probe with another type, source and destination
// swapped and the responder's part filled in; it has the same size and a new tag.
//
//	off size field
//	  0    4 magic       0x31425051, the bytes "QPB1"
//	  4    1 version     1
//	  5    1 type        1 probe, 2 reply; 3 long probe, 4 long reply
//	  6    1 link        index of the link, the same at both ends
//	  7    1 flags       of a reply: bit 0 the kernel answered (XDP), bit 1 no process
//	                     waits for probes there; of a probe: bit 0 the answer that
//	                     stamp names was the kernel's
//	  8    4 source      node id of the sender of this datagram
//	 12    4 destination node id of the receiver of this datagram
//	 16    4 epoch       of the key that made the tag
//	 20    2 length      of a long one: bytes of the whole datagram; else 0, not looked at
//	 22    2 answer      of a long probe: bytes that its reply shall have; else the same
//	 24    8 sequence    of the prober for this peer and link, from 1
//	 32    8 prober      instance of the prober
//	 40    8 sent        prober's CLOCK_BOOTTIME when it sent, ns; echoed
//	 48    8 responder   epoch of the responder; 0 in a probe
//	 56    8 stamp       responder's CLOCK_BOOTTIME when it answered, ns; in a probe
//	                     that of the destination's newest answer that counted, 0: none
//	 64    8 progress    responder's daemon: number of its ticks; 0 in a probe
//	 72    8 age         time since the last of them, ns; 0 in a probe
//	 80    8 view        number of the view it is in; 0 in a probe
//	 88    8 tag         SipHash-2-4 of bytes 0..87
//
// An epoch is the time for which answers are one node's: that of the program in its
// kernel, which a restarted daemon takes over, or else the run of its daemon. Peers
// learn it over their authenticated connection and count no answer of another one.
//
// The stamp in a probe tells the responder which of its answers arrive. A driver that
// takes the kernel's answers and loses them shows by it, and the daemon's take their place.
//
// # Long ones
//
// A network may lose packets that are as long as its MTU allows and let short ones pass, and
// say nothing of it: a black hole. So after every LongEvery probes of a peer and link there
// is a long one, as long as the path's MTU, which may not be fragmented. It is the
// same 96 bytes with a type of its own, and zeros behind them; what these are in
// truth nobody looks at. The length of the datagram, from MinLong to MaxLong bytes, is within what the tag
// is made of, so none can be made of another by cutting or adding. It says how long its
// reply shall be: MinLong at least, and never longer than itself. Nothing of the kind is 96 bytes long,
// so the program in the kernel leaves it to the daemon by its length alone.
//
// Longs has sequences of its own for them: no answer to a long probe says that a peer lives,
// and none that is missing says that it does not. As long as all are answered there is one a
// round, as long as its answer. After one that was not there are two more: one as
// long that asks for a short answer, by which the way there is told from
// the way back; and a short one, by which a peer whose daemon stands still, or knows
// nothing of these, is told from a black hole. A round counts as lost only when that was
// answered; LongLost of them in a row are a loss, and as many whole ones end it.
//
// # What is believed
//
// A receiver looks at length, magic, version and type, then at the tag, and only
// then at anything else. A probe is answered at a bounded rate and only to the
// configured address of its source, so that a replay gains nothing; nor does it take
// anything away: of the instance that is known to run at its source each
// sequence is answered once (Replays), and the probes of all others, which may be
// copies from an earlier run, have a rate of their own. A reply counts only if Window accepts
// it: it echoes a sequence and stamp that are outstanding and newer than the last one answered.
// A kernel that takes replies in (Arrivals) knows neither: it asks for a newer sequence, and
// for a time of sending that is no longer ago than a probe may be outstanding; the tag says that
// this node has written both.
package probe
