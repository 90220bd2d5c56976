package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

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
