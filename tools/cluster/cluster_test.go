package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

func TestActor(t *testing.T) {
	e := Event{Event: membership.Event{Text: "attempt 2 by node 5"}}
	if n, err := e.Actor(); n != 5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	e.Text = "3/cccc3333#0 is gone: agent, by node 1"
	if n, err := e.Actor(); err == nil {
		t.Errorf("%d of %q", n, e.Text)
	}
}

func TestSleepEndsWithTheContext(t *testing.T) {
	if err := Sleep(t.Context(), time.Millisecond); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the run ended")
	cancel(why)
	if err := Sleep(ctx, time.Hour); !errors.Is(err, why) {
		t.Error(err)
	}
}
