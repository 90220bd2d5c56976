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
//	  5    1 type        1 probe, 2 reply
//	  6    1 link        index of the link, the same at both ends
//	  7    1 flags       of a reply: bit 0 the kernel answered (XDP); else 0
//	  8    4 source      node id of the sender of this datagram
//	 12    4 destination node id of the receiver of this datagram
//	 16    4 epoch       of the key that made the tag
//	 20    4 reserved    0 when sent, not looked at when received
//	 24    8 sequence    of the prober for this peer and link, from 1
//	 32    8 prober      instance of the prober
//	 40    8 sent        prober's CLOCK_BOOTTIME when it sent, ns; echoed
//	 48    8 responder   instance of the responder; 0 in a probe
//	 56    8 stamp       responder's CLOCK_BOOTTIME when it answered, ns; 0 in a probe
//	 64    8 progress    responder's daemon: number of its ticks; 0 in a probe
//	 72    8 age         time since the last of them, ns; 0 in a probe
//	 80    8 view        number of the view it is in; 0 in a probe
//	 88    8 tag         SipHash-2-4 of bytes 0..87
//
// # What is believed
//
// A receiver looks at length, magic, version and type, then at the tag, and only
// then at anything else. A probe is answered at a bounded rate and only to the
// configured address of its source, so that a replay gains nothing; nor does it take
// anything away: of the instance that is known to run at its source each
// sequence is answered once (Replays), and the probes of all others, which may be
// copies from an earlier run, have a rate of their own. A reply counts only if Window accepts it: it echoes a sequence
// and stamp that are outstanding and newer than the last one answered.
package probe
