// Package fencedev is a power switch for virtual nodes, with two front ends: a
// Redfish service that Debian's unmodified fence_redfish drives, and a one-line
// protocol for the small agent fence_lab. It can be told to misbehave, and it
// records every power action with the host's time.
//
// Off is answered only when no process of the machine can write any more; that
// is the Machine's promise. Off of a machine that is off is answered at once.
package fencedev

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Machine is what a plug of the switch feeds.
type Machine interface {
	// PowerOff returns nil once the machine can do no more harm, and not before.
	PowerOff(ctx context.Context) error
	// PowerOn starts the machine and does not wait until it is up. A machine that
	// is on stays so.
	PowerOn(ctx context.Context) error
	Powered() bool
}

// Mode is a way to misbehave.
type Mode int

// The modes. Status requests are concerned like others, save for Slow.
const (
	Honest Mode = iota
	Fail        // answers that it failed, and does nothing
	Hang        // never answers, and does nothing
	Slow        // waits for Delay, then acts and answers
	Lie         // says that it did what it was told, and does nothing
	// Of the line protocol alone; the agent is what misbehaves then.
	Crash   // does nothing; the agent kills itself
	Garbage // does nothing; the agent prints random bytes and fails
	Babble  // does it; the agent prints a megabyte besides
)

func (m Mode) String() string {
	if names := [...]string{"honest", "fail", "hang", "slow", "lie", "crash", "garbage", "babble"}; m >= 0 && int(m) < len(names) {
		return names[m]
	}
	return fmt.Sprintf("Mode(%d)", int(m))
}

// ParseMode is the reverse of String.
func ParseMode(s string) (Mode, error) {
	for m := Honest; m <= Babble; m++ {
		if m.String() == s {
			return m, nil
		}
	}
	return 0, fmt.Errorf("%q: honest, fail, hang, slow, lie, crash, garbage or babble", s)
}

// Fault is how a plug misbehaves.
type Fault struct {
	Mode  Mode          `json:"mode"`
	Delay time.Duration `json:"delay_ns,omitempty"` // of Slow
	Via   string        `json:"via,omitempty"`      // that front end alone; empty: all
	Feed  string        `json:"feed,omitempty"`     // that feed alone, or Whole; empty: all
}

// Whole is the plug itself, not one of its feeds.
const Whole = "whole"

func (f Fault) concerns(via, feed string) bool {
	return (f.Via == "" || f.Via == via) && (f.Feed == "" || f.Feed == feed || f.Feed == Whole && feed == "")
}

// Action is what a plug is told.
type Action string

// The actions.
const (
	Status Action = "status"
	Off    Action = "off"
	On     Action = "on"
	Reboot Action = "reboot"
)

// Errors of a switch.
var (
	ErrPlug   = errors.New("no such plug")
	ErrAction = errors.New("no such action")
	ErrFault  = errors.New("told to fail")
	ErrClosed = errors.New("switch is closed")
)

// Record is one power action (status requests are not recorded). The times are the host's.
type Record struct {
	Plug   int       `json:"plug"`
	Feed   string    `json:"feed,omitempty"` // a or b, of a machine with two power supplies
	Action Action    `json:"action"`
	Via    string    `json:"via"`            // "redfish", "lab" or "ipmi"
	From   string    `json:"from"`           // who asked
	Asked  time.Time `json:"asked"`          // the request was read
	Done   time.Time `json:"done,omitzero"`  // the answer was ready; zero while it is not
	Fault  Fault     `json:"fault,omitzero"` // in force when it was asked
	Err    string    `json:"err,omitempty"`  // "" when success was answered
}

// Switch is a power switch. Its methods may be called from several goroutines.
type Switch struct {
	machines map[int]Machine
	closed   chan struct{}
	once     sync.Once

	feeding sync.Mutex
	feeds   map[int]map[string]bool // by plug: which of its two are off

	mu     sync.Mutex
	faults map[int][]Fault
	lies   map[int]bool // plug -> what a lying plug says it is
	log    []*Record
	wake   chan struct{} // closed when log changes
}

// New makes a switch with a plug for each machine.
func New(machines map[int]Machine) *Switch {
	return &Switch{machines: machines, closed: make(chan struct{}), faults: map[int][]Fault{}, feeds: map[int]map[string]bool{},
		lies: map[int]bool{}, wake: make(chan struct{})}
}

// Close ends what hangs or is slow.
func (s *Switch) Close() { s.once.Do(func() { close(s.closed) }) }

// Plugs lists the plugs in order.
func (s *Switch) Plugs() (ps []int) {
	for p := range s.machines {
		ps = append(ps, p)
	}
	slices.Sort(ps)
	return ps
}

// Misbehave sets how a plug misbehaves from now on: by the first fault that concerns
// who asks. The zero Fault alone ends it.
func (s *Switch) Misbehave(plug int, f ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[plug] = f
	delete(s.lies, plug)
}

// Log returns the actions so far, in the order in which they were asked.
func (s *Switch) Log() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	rs := make([]Record, len(s.log))
	for i, r := range s.log {
		rs[i] = *r
	}
	return rs
}

// Wait returns the first action that match accepts, asked before or after the call.
func (s *Switch) Wait(ctx context.Context, match func(Record) bool) (Record, error) {
	for {
		s.mu.Lock()
		wake := s.wake
		s.mu.Unlock()
		for _, r := range s.Log() {
			if match(r) {
				return r, nil
			}
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return Record{}, fmt.Errorf("no such power action: %w", context.Cause(ctx))
		}
	}
}

// Do carries out an action and says what the plug is afterwards.
func (s *Switch) Do(ctx context.Context, via, from string, plug int, a Action) (on bool, err error) {
	return s.DoFeed(ctx, via, from, plug, "", a)
}

// DoFeed is Do for one of the two feeds of a plug, a or b; empty: the plug itself.
func (s *Switch) DoFeed(ctx context.Context, via, from string, plug int, feed string, a Action) (on bool, err error) {
	m, ok := s.machines[plug]
	if !ok {
		return false, fmt.Errorf("%d: %w", plug, ErrPlug)
	}
	if feed != "" {
		m = fed{m, s, plug, feed}
	}
	rec := s.begin(Record{Plug: plug, Feed: feed, Action: a, Via: via, From: from, Asked: time.Now()})
	on, err = s.act(ctx, m, rec)
	s.end(rec, err)
	return on, err
}

func (s *Switch) begin(r Record) *Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.faults[r.Plug], func(f Fault) bool { return f.concerns(r.Via, r.Feed) }); i >= 0 {
		r.Fault = s.faults[r.Plug][i]
	}
	if r.Action != Status {
		s.log = append(s.log, &r)
		s.changed()
	}
	return &r
}

func (s *Switch) end(r *Record, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Done = time.Now()
	if err != nil {
		r.Err = err.Error()
	}
	s.changed()
}

// changed wakes Wait; s.mu is held.
func (s *Switch) changed() {
	close(s.wake)
	s.wake = make(chan struct{})
}

func (s *Switch) act(ctx context.Context, m Machine, r *Record) (on bool, err error) {
	switch r.Fault.Mode {
	case Fail:
		return false, ErrFault
	case Lie:
		return s.lie(m, r)
	case Crash, Garbage:
		return false, antic{r.Fault.Mode}
	case Hang:
		return false, s.pause(ctx, nil)
	case Slow:
		if r.Action != Status {
			if err := s.pause(ctx, time.After(r.Fault.Delay)); err != nil {
				return false, err
			}
		}
	}
	on, err = perform(ctx, m, r.Action)
	if err == nil && r.Fault.Mode == Babble {
		err = antic{Babble}
	}
	return on, err
}

func perform(ctx context.Context, m Machine, a Action) (on bool, err error) {
	switch a {
	case Status:
		return m.Powered(), nil
	case Off:
		return false, m.PowerOff(ctx)
	case On:
		return true, m.PowerOn(ctx)
	case Reboot:
		if err := m.PowerOff(ctx); err != nil {
			return false, err
		}
		return true, m.PowerOn(ctx)
	}
	return false, fmt.Errorf("%q: %w", a, ErrAction)
}

// pause waits for a time, for ever when it is nil, but no longer than anybody cares.
func (s *Switch) pause(ctx context.Context, until <-chan time.Time) error {
	select {
	case <-until:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.closed:
		return ErrClosed
	}
}

// lie keeps to its story: a plug that claims off claims it until told otherwise.
func (s *Switch) lie(m Machine, r *Record) (on bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Action {
	case Off:
		s.lies[r.Plug] = false
	case On, Reboot:
		s.lies[r.Plug] = true
	}
	if claim, ok := s.lies[r.Plug]; ok {
		return claim, nil
	}
	return m.Powered(), nil
}
