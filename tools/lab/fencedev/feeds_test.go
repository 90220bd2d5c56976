package fencedev

import (
	"errors"
	"strings"
	"testing"
)

// do is an action on a feed of plug 3.
func do(t *testing.T, s *Switch, feed string, a Action, want bool) {
	t.Helper()
	if on, err := s.DoFeed(t.Context(), "lab", "x", 3, feed, a); on != want || err != nil {
		t.Errorf("%s of feed %q: %v, %v", a, feed, on, err)
	}
}

func TestTwoFeeds(t *testing.T) {
	s, m := newSwitch(t)
	do(t, s, "a", Status, true)
	do(t, s, "a", Off, false)
	do(t, s, "a", Off, false) // again: it changes nothing
	do(t, s, "a", Status, false)
	do(t, s, "b", Status, true)
	if !m.Powered() || m.offs != 0 {
		t.Fatal("off on one feed")
	}
	do(t, s, "b", Off, false)
	if m.Powered() || m.offs != 1 {
		t.Fatal("not off on two")
	}
	do(t, s, "", Status, false)
	do(t, s, "b", On, true)
	do(t, s, "a", Status, false)
	if !m.Powered() {
		t.Fatal("one feed is enough")
	}
	do(t, s, "a", On, true)
	do(t, s, "a", Off, false)
	do(t, s, "b", Off, false)
	_ = m.PowerOn(t.Context()) // by somebody else: with both
	do(t, s, "a", Status, true)
	do(t, s, "b", Status, true)
	do(t, s, "b", Reboot, true)
	if log := s.Log(); log[0].Feed != "a" || log[0].Plug != 3 {
		t.Errorf("%+v", log)
	}
}

func TestAFeedThatCannotBeCut(t *testing.T) {
	s, m := newSwitch(t)
	m.offFail = errors.New("not frozen")
	do(t, s, "a", Off, false)
	if _, err := s.DoFeed(t.Context(), "lab", "x", 3, "b", Off); err == nil {
		t.Error("off, and it runs")
	}
	do(t, s, "b", Status, true)
}

// A fault may concern one front end or feed alone.
func TestFaultsConcern(t *testing.T) {
	s, _ := newSwitch(t)
	s.Misbehave(3, Fault{Mode: Fail, Via: "redfish"}, Fault{Mode: Lie, Feed: "a"}, Fault{Mode: Fail, Feed: Whole})
	for _, c := range []struct {
		via, feed string
		err       error
	}{{"redfish", "", ErrFault}, {"lab", "a", nil}, {"lab", "b", nil}, {"lab", "", ErrFault}} {
		if _, err := s.DoFeed(t.Context(), c.via, "x", 3, c.feed, Status); !errors.Is(err, c.err) {
			t.Errorf("%s %q: %v", c.via, c.feed, err)
		}
	}
	s.Misbehave(3)
	do(t, s, "", Off, false)
}

func TestAntics(t *testing.T) {
	s, m := newSwitch(t)
	for _, c := range []struct {
		mode      Mode
		says, end string
		on        bool
	}{{Crash, "die\n", "die\n", true}, {Garbage, "say ", "\nerror no sense in it\n", true}, {Babble, "say ", "\nok off\n", false}} {
		s.Misbehave(3, Fault{Mode: c.mode})
		got := s.answer(t.Context(), "x", "off 3\n")
		if !strings.HasPrefix(got, c.says) || !strings.HasSuffix(got, c.end) || m.Powered() != c.on {
			t.Errorf("%v: %.40q … %q, powered %v", c.mode, got, got[max(0, len(got)-40):], m.Powered())
		}
		if c.mode == Babble && len(got) < 2<<20 {
			t.Errorf("%d bytes", len(got))
		}
		if m, err := ParseMode(c.mode.String()); err != nil || m != c.mode {
			t.Errorf("%v: %v, %v", c.mode, m, err)
		}
	}
	for req, want := range map[string]string{"status 3a\n": "ok on\n", "off node3b\n": "ok off\n", "off 3ab\n": "error 3ab: not a plug\n", "off 3c\n": "error 3c: not a plug\n", "off ab\n": "error ab: not a plug\n"} {
		s.Misbehave(3)
		m.on = true
		if got := s.answer(t.Context(), "x", req); got != want {
			t.Errorf("%q: %q", req, got)
		}
	}
}
