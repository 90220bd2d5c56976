package tcp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
)

const (
	// spareFeature is the feature level from which on a listener knows of spares.
	spareFeature = 2
	// useTimeout bounds the round trip by which a spare becomes the pair's connection.
	useTimeout = 500 * time.Millisecond
	// A spare that cannot be had is tried again: nothing depends on it yet.
	spareRetryMin = time.Second
	spareRetryMax = 30 * time.Second
)

// Avoid says which links to a peer carry nothing, or lose long packets, by somebody who
// measures it. The pair's connection leaves such a link if there is another; it does not go
// back to one that is well again.
func (c *Comm) Avoid(id membership.NodeID, links []int) {
	p, ok := c.peer(id)
	if !ok {
		return
	}
	p.mu.Lock()
	p.avoided = slices.Clone(links)
	p.mu.Unlock()
	p.notice()
	p.leaveAvoided(true)
}

// leaveAvoided ends a connection on such a link where there is a better spare, or, if so
// wished, a better link to dial. The listener asks the dialler to, who may not have
// noticed: of two who both chose, each could choose another spare.
func (p *peer) leaveAvoided(dial bool) {
	p.mu.Lock()
	cur, spare := p.current, p.spare
	leave := cur != nil && p.up && slices.Contains(p.avoided, cur.link)
	good := spare != nil && !slices.Contains(p.avoided, spare.link)
	dial = dial && len(p.avoided) < len(p.node.Addrs)
	p.mu.Unlock()
	switch {
	case !leave:
	case p.dials() && (good || dial):
		cur.close(errMoved(cur.link))
	case !p.dials() && good:
		// The send buffer of a spare is empty, so this does not block.
		if err := spare.write(frameAsk, nil); err != nil {
			spare.close(err)
		}
	}
}

func errMoved(link int) error { return fmt.Errorf("%w: link %d", ErrMoved, link) }

// dials: of each pair the node with the lower id does.
func (p *peer) dials() bool { return p.c.opt.Self < p.node.ID }

// notice has the spare looked at.
func (p *peer) notice() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// spareLink is the link on which a spare is wanted now.
func (p *peer) spareLink() (link int, wanted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil || !p.up || p.current.hello.feature < spareFeature {
		return 0, false
	}
	return p.spareLinkLocked()
}

func (p *peer) spareLinkLocked() (link int, wanted bool) {
	for i := range p.node.Addrs {
		if i != p.current.link && !slices.Contains(p.avoided, i) {
			return i, true
		}
	}
	return 0, false
}

// spareLoop keeps a spare beside the pair's connection, over another link, until ctx ends.
func (p *peer) spareLoop(ctx context.Context) {
	wait := spareRetryMin
	for ctx.Err() == nil {
		link, wanted := p.spareLink()
		if !wanted {
			select {
			case <-p.changed:
			case <-ctx.Done():
			}
			wait = spareRetryMin
			continue
		}
		began := time.Now()
		err := p.keepSpare(ctx, link)
		if err == nil {
			continue // it is in use now, or another one is wanted
		}
		p.c.log.Debug("no spare connection", "peer", p.node.ID, "link", link, "err", err)
		if time.Since(began) > spareRetryMax {
			wait = spareRetryMin
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			wait = min(2*wait, spareRetryMax)
		case <-p.changed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// keepSpare makes a spare and returns when it is one no more.
func (p *peer) keepSpare(ctx context.Context, link int) error {
	dctx, cancel := context.WithTimeout(ctx, connectTimeout)
	raw, err := p.dialAddr(dctx, link, 0)
	cancel()
	if err != nil {
		return err
	}
	s, err := p.c.handshake(ctx, raw, purpose{want: p.node.ID, spare: true})
	if err != nil {
		p.c.refused(remoteOf(raw), err)
		return err
	}
	s.link, s.parked = link, make(chan struct{})
	p.setSpare(s) // before it is read: what the listener asks on it must find it in its place
	go p.park(s)  // it is waited for below, or by takeSpare
	for {
		select {
		case <-ctx.Done():
			s.close(p.why())
		case <-p.changed:
			if p.spareIs(s) && !p.suits(s) {
				s.close(errUnneeded)
			}
			continue
		case <-s.parked:
		}
		<-s.parked
		p.forget(s)
		if why := s.reason(); why != nil && !errors.Is(why, errUnneeded) {
			return why
		}
		return nil
	}
}

// suits says whether s is still where a spare belongs. One that is on a link that
// carries stays, though another link may come before it; so does one beside nothing,
// which is what will be used next.
func (p *peer) suits(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil || !p.up {
		return true
	}
	if s.hello.instance != p.current.hello.instance {
		return false
	}
	if s.link != p.current.link && !slices.Contains(p.avoided, s.link) {
		return true
	}
	_, other := p.spareLinkLocked()
	return s.link != p.current.link && !other
}

// park reads a spare of the dialler, on which the listener says nothing but that it
// wants it used, until it ends or takeSpare takes it.
func (p *peer) park(s *session) {
	defer close(s.parked)
	for {
		if _, err := s.in.Peek(headerSize); err != nil {
			if !s.taken.Load() {
				s.close(err)
			}
			return
		}
		kind, _, err := readFrame(s.in, maxHandshake)
		switch {
		case err != nil:
			s.close(err)
			return
		case kind != frameAsk:
			s.close(fmt.Errorf("%w: a frame of type %d on a spare", ErrGarbage, kind))
			return
		}
		p.asked(s)
	}
}

// asked: the listener finds that the pair's connection is on a link to be avoided.
func (p *peer) asked(s *session) {
	p.mu.Lock()
	cur := p.current
	ok := p.spare == s && cur != nil && cur.link != s.link
	p.mu.Unlock()
	if ok {
		cur.close(errMoved(cur.link))
	}
}

func (p *peer) setSpare(s *session) {
	p.mu.Lock()
	old := p.spare
	p.spare = s
	p.mu.Unlock()
	if old != nil {
		old.close(ErrReplaced)
	}
	p.notice() // what it was made beside may have changed
	p.leaveAvoided(false)
}

func (p *peer) spareIs(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spare == s
}

func (p *peer) forget(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spare == s {
		p.spare = nil
	}
}

// takeSpare makes the spare the pair's connection, in a round trip; nil when there is
// none that answers. It is the dial loop's own.
func (p *peer) takeSpare(ctx context.Context) *session {
	p.mu.Lock()
	s := p.spare
	p.spare = nil
	p.mu.Unlock()
	if s == nil {
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = s.raw.Close() })()
	s.taken.Store(true)
	_ = s.raw.SetReadDeadline(time.Unix(1, 0)) // ends park's read; what was read stays in the buffer
	<-s.parked
	if s.ended() {
		return nil
	}
	_ = s.raw.SetDeadline(time.Now().Add(useTimeout))
	err := s.write(frameUse, nil)
	for err == nil {
		var kind byte
		if kind, _, err = readFrame(s.in, maxHandshake); err == nil && kind != frameAsk { // it may have asked meanwhile
			if kind != frameReady {
				err = fmt.Errorf("%w: a frame of type %d instead of %d", ErrGarbage, kind, frameReady)
			}
			break
		}
	}
	if err != nil {
		s.close(err)
		return nil
	}
	_ = s.raw.SetDeadline(time.Time{})
	return s
}

// standBy is the listener's side of a spare: it is kept until the dialler has it used,
// and served then.
func (p *peer) standBy(ctx context.Context, s *session) error {
	defer context.AfterFunc(ctx, func() { s.close(p.why()) })()
	p.setSpare(s)
	kind, _, err := readFrame(s.in, maxHandshake)
	p.forget(s)
	if err == nil && kind != frameUse {
		err = fmt.Errorf("%w: a frame of type %d on a spare", ErrGarbage, kind)
	}
	if err == nil {
		p.moved(s)
		err = s.write(frameReady, nil)
	}
	if err != nil {
		s.close(err)
		return s.reason()
	}
	return p.serve(ctx, s)
}

// moved tells the reason of the end of the connection whose place s takes.
func (p *peer) moved(s *session) {
	p.mu.Lock()
	old := p.current
	p.mu.Unlock()
	if old != nil && old.hello.instance == s.hello.instance {
		old.close(errMoved(old.link))
	}
}
