package daemon

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
)

// A key that no version changes is not changed by another start either, and both the refusal
// and the note say what it takes. What they say is done here.
func TestAKeyThatIsChangedByFormingAnew(t *testing.T) {
	f := newFleet(t)
	was := f.text(2, "")
	is := strings.Replace(was, "[cluster]\n", "[cluster]\ndlm_port = 999\n", 1)
	for id := 1; id <= 2; id++ {
		f.start(id, was)
	}
	for id := 1; id <= 2; id++ {
		f.nodes[id].works(1, 2)
	}
	agreed := f.nodes[1].show()
	_, err := f.nodes[1].apply(strings.Replace(agreed, "[cluster]\n", "[cluster]\ndlm_port = 999\n", 1), 1)
	if err == nil || !strings.Contains(err.Error(), "dlm_port cannot be changed while the cluster runs") || !strings.Contains(err.Error(), "state/raft.old` on all") {
		t.Fatal(err)
	}
	f.leaveAndRun(is)
	for id := 1; id <= 2; id++ {
		s := f.nodes[id].works(1, 2)
		if !slices.ContainsFunc(s.Notes, func(n string) bool {
			return strings.Contains(n, "cluster.dlm_port cannot be changed while the cluster runs, nor by a start") && strings.Contains(n, config.AnewSection()) && !strings.Contains(n, "config apply")
		}) || f.nodes[id].show() != agreed {
			t.Fatalf("%q\n%s", s.Notes, f.nodes[id].show())
		}
	}
	f.leaveAndRun(is, "raft")
	for id := 1; id <= 2; id++ {
		f.nodes[id].until("init is asked for", func(s control.Status) bool {
			return slices.ContainsFunc(s.Waits, func(w control.Wait) bool { return strings.Contains(w.Reason, "quorate init") })
		})
		if _, err := f.nodes[id].ask(control.Request{Command: "init"}); err != nil {
			t.Fatal(err)
		}
	}
	for id := 1; id <= 2; id++ {
		if f.nodes[id].works(1, 2); !strings.Contains(f.nodes[id].show(), "dlm_port = 999") {
			t.Fatal(f.nodes[id].show())
		}
	}
}

// A mount waits when the log is given up: it is refused and comes again, and the node
// joins anew with no reboot. Until then nobody was told that it is ready, for a while.
func TestAMountWaitsWhenTheLogIsGivenUp(t *testing.T) {
	f := newFleet(t)
	file := f.text(3, "")
	leave := func(id int) {
		m := f.nodes[id]
		if _, err := m.ask(control.Request{Command: "leave"}); err != nil {
			t.Fatal(err)
		}
		<-m.ended
		m.cancel()
		m.cancel = nil
	}
	for id := 1; id <= 3; id++ {
		f.start(id, file)
	}
	f.nodes[1].works(1, 3)
	leave(2)
	rename := func(from, to string) {
		if err := os.Rename(f.path("2", "state", from), f.path("2", "state", to)); err != nil {
			t.Fatal(err)
		}
	}
	rename("raft", "misplaced")
	f.nodes[2].run(file) // under another raft id
	f.nodes[2].works(1, 3)
	leave(2)
	f.nodes[1].stop()
	f.nodes[3].stop()
	rename("raft", "newer")
	rename("misplaced", "raft")

	began := time.Now()
	f.nodes[2].run(file) // nobody is there to ask
	if took := time.Since(began); took < readyLimit {
		t.Errorf("ready after %v", took)
	}
	mount := f.nodes[2].kernel.Create("gfs")
	f.nodes[2].until("the mount waits", func(s control.Status) bool { return len(s.Lockspaces) == 1 })
	f.nodes[1].run(file)
	f.nodes[3].run(file)
	if err := f.nodes[2].answers(mount); !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("the mount gets %v", err)
	}
	f.nodes[2].works(1, 3)
	mount = f.nodes[2].kernel.Create("gfs")
	if err := f.nodes[2].answers(mount); err != nil {
		t.Fatal(err)
	}
	for id := 1; id <= 3; id++ {
		f.nodes[id].stop()
	}
}

// leaveAndRun ends all daemons by a clean leave and starts them by another file, with some
// of their state put aside.
func (f *fleet) leaveAndRun(text string, aside ...string) {
	f.t.Helper()
	for _, m := range f.nodes {
		if _, err := m.ask(control.Request{Command: "leave"}); err != nil {
			f.t.Fatal(err)
		}
	}
	for _, m := range f.nodes {
		<-m.ended
		m.cancel()
		m.cancel = nil
	}
	for id, m := range f.nodes {
		for _, name := range aside {
			dir := f.path(fmt.Sprint(id), "state", name)
			if err := os.Rename(dir, dir+".old"); err != nil {
				f.t.Fatal(err)
			}
		}
		m.run(text)
	}
}

// answers is what a mount gets.
func (m *member) answers(mount <-chan error) error {
	m.f.t.Helper()
	select {
	case err := <-mount:
		return err
	case <-time.After(60 * time.Second):
		m.f.t.Fatalf("n%d: the mount waits: %v", m.id, m.until("a status", func(control.Status) bool { return true }))
		return nil
	}
}
