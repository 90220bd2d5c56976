package liveness

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/membership/probe/udp"
)

// storySilent is so long that a test's machine may stand still for a moment.
const storySilent = 600 * time.Millisecond

// ownTimer is the alarm where the kernel stamps nothing: when the prober's last answer
// is too old, by a timer of the runtime's.
func ownTimer(ctx context.Context, p *udp.Prober, tell func(probe.Silence)) error {
	var told membership.Mono
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		s, now := p.Snapshot()[0], boottime()
		due := s.Heard.Add(storySilent)
		if s.Heard == 0 || due <= now {
			if s.Heard != 0 && told != s.Heard {
				told = s.Heard
				tell(probe.Silence{Peer: s.Peer, Link: s.Link, Since: s.Heard})
			}
			due = now.Add(storyInterval)
		}
		timer.Reset(due.Sub(now))
	}
}

// listen has the process's prober be given no datagram any more, or again: what comes is
// there for the kernel's programs and is never read, as by a reader that does not run.
func listen(again bool) error {
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		return err
	}
	for _, path := range fds {
		fd, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			return err
		}
		var port int
		switch a, _ := unix.Getsockname(fd); a := a.(type) {
		case *unix.SockaddrInet4:
			port = a.Port
		case *unix.SockaddrInet6:
			port = a.Port
		}
		if port != storyPort {
			continue
		}
		if again {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
		}
		none := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &none[0]})
	}
	return errors.New("no socket of the prober's")
}

// storyKinds are all ways to notice a silence.
var storyKinds = []string{string(Timer), string(TimerFD), "daemon"}

// startKind starts node 1 with a kind of alarm, and node 2.
func startKind(t *testing.T, kind string, two Want) (a, b *node) {
	t.Helper()
	w := newWire(t, wireV4)
	if kind == string(Timer) && !timersHere() {
		t.Skip(untimed(timersOnce()))
	}
	s := storySpec{Self: 1, Addrs: w.addr, Want: WantGeneric, Root: filepath.Join(w.dir, "1"), Run: 1, Epoch: 20, NoTimers: kind == string(TimerFD)}
	if kind == "daemon" {
		s.Want = ""
	}
	a, b = w.startSpec(s), w.start(2, two, 20, 1)
	a.await("node 2 answers", func(s storySay) bool { return s.Sample.Answered > 20 && (s.Counter == nil || s.Counter["heard"] > 20) })
	return a, b
}

// dies checks that what a node tells of another's death is in time.
func (n *node) dies() storySay {
	n.w.t.Helper()
	s := n.await("the silence is told", func(s storySay) bool { return s.Silent > 0 && s.Since == s.Sample.Heard })
	late := s.Told.Sub(s.Since) - storySilent
	n.w.t.Logf("the silence was told %v after its time", late)
	if late < 0 || late > slack {
		n.w.t.Errorf("told %v after its time", late)
	}
	return s
}

// A peer that dies is told of at its deadline, by each kind, and once.
func TestStoryDeath(t *testing.T) {
	for _, kind := range storyKinds {
		t.Run(kind, func(t *testing.T) {
			a, b := startKind(t, kind, "")
			b.kill()
			s := a.dies()
			time.Sleep(3 * storySilent)
			if x := a.say(); x.Silent != s.Silent {
				t.Errorf("told %d times more", x.Silent-s.Silent)
			}
			b.w.start(2, "", 20, 1)
			a.await("it is heard again", func(s storySay) bool { return s.Now.Sub(s.Sample.Heard) < storySilent })
		})
	}
}

// A reader that reads nothing for many times the deadline: the kernel takes the answers in, so
// nobody is silent, and a death meanwhile is told in time. Without it the answers are lost.
func TestStoryDeafReader(t *testing.T) {
	for _, kind := range storyKinds {
		t.Run(kind, func(t *testing.T) {
			for try := 1; !deafReader(t, kind); try++ {
				if try == 5 {
					t.Skip("this machine does not run its processes often enough to tell that from silence")
				}
			}
		})
	}
}

// deafReader is false where a node was held up so long that nothing follows: who is not
// run asks nobody, and the silence is true.
func deafReader(t *testing.T, kind string) bool {
	a, b := startKind(t, kind, WantGeneric)
	defer a.kill()
	defer b.kill()
	quiet := func(s storySay) bool { return s.Silent == 0 && s.Now.Sub(s.Sample.Heard) < storySilent }
	held := func() bool { return max(a.say().Held, b.say().Held) > storySilent/4 }
	was := a.order("deaf")
	if kind == "daemon" {
		a.dies() // who reads nothing hears nobody
		return true
	}
	s := was
	for began := time.Now(); quiet(s) && time.Since(began) < 5*storySilent; time.Sleep(storyInterval) {
		s = a.say()
	}
	n := s.User["accepted"] - was.User["accepted"]
	x := a.order("listen")
	x = a.await("it reads again", func(y storySay) bool { return y.User["accepted"] > x.User["accepted"]+5 })
	if !quiet(s) || x.Silent != 0 {
		if held() {
			return false
		}
		t.Fatalf("node 2 is taken as silent: %+v, then %+v", s, x)
	}
	if sent := s.Sample.Sent - was.Sample.Sent; sent < 20 || n < sent/2 {
		t.Fatalf("%d answers to %d probes counted, without a reader", n, sent)
	}
	a.order("deaf")
	b.kill()
	a.dies()
	return true
}

// A whole process that stood still has old stamps, since it asked nobody: what it is told
// is true, and its own pause is for the judge to see. It watches on after that.
func TestStoryStoppedProcess(t *testing.T) {
	kinds(t, stoppedProcess)
}

func stoppedProcess(t *testing.T, kind Alarm) {
	a, b := startKind(t, string(kind), "")
	a.signal(unix.SIGSTOP)
	time.Sleep(3 * storySilent)
	a.signal(unix.SIGCONT)
	a.await("node 2 is heard again", func(s storySay) bool { return s.Now.Sub(s.Sample.Heard) < storySilent })
	if s := a.say(); s.Silent > 0 && s.Told.Sub(s.Since) < storySilent {
		t.Errorf("%+v", s)
	}
	b.kill()
	a.dies()
}
