package fencedev

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

// fed is a machine with two power supplies, seen from one of them. It is off when
// both are; the outlet says of itself alone whether it is on.
type fed struct {
	Machine
	s    *Switch
	plug int
	feed string
}

// off is which feeds of the plug are off; s.feeding is held. A machine that runs without
// any was switched on by other means, which has both on again.
func (f fed) off() map[string]bool {
	off := f.s.feeds[f.plug]
	if off == nil || off["a"] && off["b"] && f.Machine.Powered() {
		off = map[string]bool{}
		f.s.feeds[f.plug] = off
	}
	return off
}

func (f fed) Powered() bool {
	f.s.feeding.Lock()
	defer f.s.feeding.Unlock()
	return !f.off()[f.feed]
}

func (f fed) PowerOff(ctx context.Context) error {
	f.s.feeding.Lock()
	off := f.off()
	both := off["a"] || off["b"]
	if off[f.feed] {
		both = off["a"] && off["b"]
	}
	f.s.feeding.Unlock()
	if both {
		if err := f.Machine.PowerOff(ctx); err != nil {
			return err
		}
	}
	f.s.feeding.Lock()
	defer f.s.feeding.Unlock()
	off[f.feed] = true
	return nil
}

func (f fed) PowerOn(ctx context.Context) error {
	f.s.feeding.Lock()
	off := f.off() // before the machine is on by this feed alone
	delete(off, f.feed)
	f.s.feeding.Unlock()
	return f.Machine.PowerOn(ctx)
}

// antic is what the agent of the line protocol is told to do besides.
type antic struct{ Mode }

func (a antic) Error() string { return "told to " + a.String() }

// The words that have fence_lab misbehave: it dies, or prints bytes in hexadecimal.
const (
	Die = "die"
	Say = "say"
)

// lines are the words of it.
func (a antic) lines(on bool) string {
	switch a.Mode {
	case Crash:
		return Die + "\n"
	case Garbage:
		b := make([]byte, 512)
		_, _ = rand.Read(b) // never fails
		return fmt.Sprintf("%s %s\nerror no sense in it\n", Say, hex.EncodeToString(b))
	}
	const line = 1024
	text := strings.Repeat("babble ", line/7) + "\n"
	return strings.Repeat(fmt.Sprintf("%s %s\n", Say, hex.EncodeToString([]byte(text))), 1<<20/len(text)+1) + outcome(on)
}
