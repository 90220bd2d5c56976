package udp

import (
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
)

// reason is why a packet came to nothing; the rest are plain counts.
type reason int

const (
	accepted     reason = iota // replies that counted
	answered                   // probes that were answered
	sent                       // probes given to the kernel
	sendFailed                 // probes and answers that the kernel did not take
	dropForm                   // not a packet of ours
	dropKey                    // an epoch that we have no key of
	dropTag                    // not made with that key
	dropDst                    // for another node
	dropSource                 // from a node that is not configured on the link
	dropLink                   // says another link than the one it came on
	dropReplay                 // probes of the learnt instance that have come before
	dropRate                   // probes beyond the rate of answers
	dropProber                 // replies to another instance of this node
	dropUnlearnt               // replies before the peer's instance is known
	dropInstance               // replies of another instance than the one learnt
	dropUnasked                // replies to what was never sent
	dropLate                   // replies to a probe too long ago
	dropOld                    // replies not newer than one that counted
	dropNoDaemon               // replies of a kernel whose daemon has ended
	longSent                   // long probes given to the kernel
	longAnswered               // long probes that were answered
	longAccepted               // long replies that counted
	hurries                    // peers that were probed more often for a hint
	heldUp                     // times that no probe was sent for two intervals or more
	reasons
)

var reasonNames = [reasons]string{
	"accepted", "answered", "sent", "send_failed", "form", "key_epoch", "tag", "destination", "source", "link",
	"replay", "rate", "prober", "unlearnt", "instance", "unasked", "late", "old", "no_daemon",
	"long_sent", "long_answered", "long_accepted", "hurries", "held_up",
}

// Counters returns how many packets came to what end: sent, answered, accepted,
// send_failed, and the dropped ones by reason.
func (p *Prober) Counters() map[string]uint64 {
	out := make(map[string]uint64, reasons)
	for i := range p.drops {
		out[reasonNames[i]] = p.drops[i].Load()
	}
	return out
}

// Dropped returns how many packets were refused, by reason; reasons without any are left out.
func (p *Prober) Dropped() map[string]uint64 {
	out := map[string]uint64{}
	for r := dropForm; r <= dropNoDaemon; r++ {
		if n := p.drops[r].Load(); n > 0 {
			out[reasonNames[r]] = n
		}
	}
	return out
}

func (p *Prober) count(r reason) { p.drops[r].Add(1) }

// receive judges one datagram that came on a link. For a probe that is to be
// answered it writes the answer to out and returns whom to send it to.
func (p *Prober) receive(link int, b []byte, at membership.Mono, out *[probe.Size]byte) *target {
	pkt, err := probe.Parse(b)
	t, key, why := p.believe(link, &pkt, err, b)
	if t == nil {
		p.count(why)
		return nil
	}
	if pkt.Type == probe.TypeReply {
		if pkt.Prober != p.opt.Instance {
			p.count(dropProber)
		} else {
			passed := at
			p.look(t, &passed) // what came before it
			p.count(t.accept(&pkt, at))
		}
		return nil
	}
	why = t.mayAnswer(&pkt, at)
	p.count(why)
	if why != answered {
		return nil
	}
	p.answer(&pkt, at, key, out)
	return t
}

// believe checks all that can be checked of a datagram by itself.
func (p *Prober) believe(link int, pkt *probe.Packet, err error, b []byte) (*target, probe.Key, reason) {
	if err != nil {
		return nil, probe.Key{}, dropForm
	}
	key, ok := p.key(pkt.Epoch)
	if !ok {
		return nil, key, dropKey
	}
	if !probe.Verify(b[:probe.Size], key) {
		return nil, key, dropTag
	}
	t, why := p.route(link, pkt)
	return t, key, why
}

func (p *Prober) key(epoch uint32) (probe.Key, bool) {
	for _, k := range *p.keys.Load() {
		if k.Epoch() == epoch {
			return k, true
		}
	}
	return probe.Key{}, false
}

// route finds the peer and link that an authentic packet is of.
func (p *Prober) route(link int, pkt *probe.Packet) (*target, reason) {
	if pkt.Dst != p.opt.Self {
		return nil, dropDst
	}
	if int(pkt.Link) != link {
		return nil, dropLink
	}
	byLink := p.table.Load().index[pkt.Src]
	if link >= len(byLink) || byLink[link] == nil {
		return nil, dropSource
	}
	return byLink[link], 0
}

// answer writes the reply to a probe, with the key that the probe came with:
// who sends with it accepts it.
func (p *Prober) answer(pkt *probe.Packet, at membership.Mono, key probe.Key, out *[probe.Size]byte) {
	r := pkt.Reply()
	p.sign(&r, at, key, out)
}

// sign fills in this node's part of a reply.
func (p *Prober) sign(r *probe.Packet, at membership.Mono, key probe.Key, out *[probe.Size]byte) {
	r.Responder = p.opt.Epoch
	r.Stamp = at
	r.Progress = p.ticks.Load()
	r.Age = max(time.Duration(int64(at)-p.tickedAt.Load()), 0)
	r.View = p.view.Load()
	r.Marshal(out, key)
}

// ask writes the next probe of a target.
func (p *Prober) ask(t *target, at membership.Mono, out *[probe.Size]byte) {
	pkt := probe.Packet{Type: probe.TypeProbe, Link: uint8(t.link.index), Src: p.opt.Self, Dst: t.peer, Prober: p.opt.Instance}
	t.next(&pkt, at)
	pkt.Marshal(out, (*p.keys.Load())[0])
}
