package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
)

// TestNoneHoldsNothing: whatever asks for a lockspace is refused in words, all
// else is done at once, and a removed peer is answered.
func TestNoneHoldsNothing(t *testing.T) {
	var said []lockspace.Input
	k, err := openNone(filepath.Join(t.TempDir(), "none"), func(in lockspace.Input) { said = append(said, in) })
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"stop": k.Stop("gfs", 1), "start": k.Start(dlm.StartJob{Lockspace: "gfs"}), "answer": k.AnswerJoin("gfs", 1),
		"finish": k.FinishLeave("gfs", 1), "fail": k.FailJoin("gfs", syscall.ETIMEDOUT, 1),
	} {
		if !errors.Is(err, errNoKernel) {
			t.Errorf("%s: %v", what, err)
		}
	}
	peer := membership.Incarnation{Node: 2, Boot: "b"}
	if err := errors.Join(k.SetPeer(peer), k.RemovePeer(peer), k.Quiesce(), k.Resume(), k.Halt("x"), k.Close()); err != nil {
		t.Error(err)
	}
	if len(said) != 1 || said[0] != (lockspace.PeerRemoved{Incarnation: peer}) {
		t.Errorf("said %v", said)
	}
}

// TestNoneWithLockspaces: a kernel that holds some has no place under kernel = "none".
func TestNoneWithLockspaces(t *testing.T) {
	dir := t.TempDir()
	if _, err := openNone(dir, nil); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "home"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := openNone(dir, nil); !errors.Is(err, dlm.ErrUncontrolled) || !strings.HasSuffix(err.Error(), ": home") {
		t.Errorf("%v", err)
	}
}

// TestBlame: what the network does not answer is said of a recovery that takes
// long; where none does it is a warning, if the peer is a member.
func TestBlame(t *testing.T) {
	d := &Daemon{cfg: config.Config{Config: membership.Config{Nodes: []membership.Node{{ID: 3, Name: "c"}}}}, kernel: troubled{}}
	wait := func(what string, since time.Duration) control.LockspaceStatus {
		return control.LockspaceStatus{Waits: []control.Wait{{For: what, Since: since, Reason: "why"}}}
	}
	nodes := []control.NodeStatus{{ID: 3, State: "member"}}
	s := control.Status{Nodes: nodes, Lockspaces: []control.LockspaceStatus{wait("recovery", 2*time.Second), wait("recovery", time.Millisecond), wait("stop", 2*time.Second)}}
	d.blame(&s)
	const said = "DLM port to c: SYN unanswered"
	for i, want := range []string{"why; " + said, "why", "why"} {
		if got := s.Lockspaces[i].Waits[0].Reason; got != want {
			t.Errorf("%d: %q, not %q", i, got, want)
		}
	}
	if len(s.Warnings) != 0 {
		t.Errorf("what a wait says is a warning too: %q", s.Warnings)
	}
	s = control.Status{Nodes: nodes}
	if d.blame(&s); len(s.Warnings) != 0 || s.Level != control.OK {
		t.Errorf("of a SYN that was sent just now: %q, level %d", s.Warnings, s.Level)
	}
	d.kernel = troubled{again: 1}
	if d.blame(&s); !slices.Equal(s.Warnings, []string{said}) || s.Level != control.Degraded {
		t.Errorf("with everything running: %q, level %d", s.Warnings, s.Level)
	}
	s = control.Status{Nodes: []control.NodeStatus{{ID: 3, State: "fencing"}}}
	if d.blame(&s); len(s.Warnings) != 0 {
		t.Errorf("of a node that is fenced: %q", s.Warnings)
	}
}

type troubled struct {
	noKernel
	again uint32
}

func (k troubled) Troubles() []dlm.Trouble {
	return []dlm.Trouble{{Node: 3, Text: "SYN unanswered", Again: k.again}}
}

// scripted answers one list of troubles after the other, each at a cost.
type scripted struct {
	kernel
	say  [][]dlm.Trouble
	cost time.Duration
	at   []time.Time
}

func (s *scripted) Troubles() []dlm.Trouble {
	s.at = append(s.at, time.Now())
	time.Sleep(s.cost)
	return s.say[min(len(s.at), len(s.say))-1]
}

// The machine is told of every look that finds who does not answer, and of what is sent for
// the first time nothing. A look that takes long is taken less often.
func TestWatchPaths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, first := dlm.Trouble{Node: 3, Text: "7 bytes", Again: 4}, dlm.Trouble{Node: 2, Text: "SYN unanswered"}
		k := &scripted{say: [][]dlm.Trouble{{first}, {first, slow}, {slow}, nil}, cost: 20 * time.Millisecond}
		d := &Daemon{kernel: k, inputs: make(chan node.Input, 10), done: make(chan struct{})}
		ctx, cancel := context.WithTimeout(t.Context(), 17*time.Second)
		defer cancel()
		if err := d.watchPaths(ctx); err != nil {
			t.Fatal(err)
		}
		close(d.inputs)
		var got []node.Input
		for in := range d.inputs {
			got = append(got, in)
		}
		one := node.Unanswered{Peers: []membership.NodeID{3}}
		want := []node.Input{one, one, node.Unanswered{}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, not %+v", got, want)
		}
		for i := range k.at[1:] {
			if gap := k.at[i+1].Sub(k.at[i]); gap < pathShare*k.cost {
				t.Errorf("looked again after %v", gap)
			}
		}
	})
}
