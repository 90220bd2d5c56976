package dlm_test

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/configfs"
	"github.com/quorate/quorate/configfs/configfstest"
	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/kbridge/dlm/dlmtest"
	"github.com/quorate/quorate/kbridge/lockspace"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/transcript"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a driver on a fake kernel.
type node struct {
	*dlm.Driver
	t      *testing.T
	k      *dlmtest.Kernel
	events chan dlm.Event
	token  uint64
}

var addrs = map[membership.NodeID][]netip.Addr{
	1: {netip.MustParseAddr("10.0.0.1")},
	2: {netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.1.0.2")},
	3: {netip.MustParseAddr("10.0.0.3")},
}

var links = map[membership.NodeID][]netip.Addr{2: {netip.MustParseAddr("10.80.0.2"), netip.MustParseAddr("10.80.1.2")}}

func inc(n membership.NodeID, boot string) membership.Incarnation {
	return membership.Incarnation{Node: n, Boot: membership.BootID(boot)}
}

func options(events chan dlm.Event) dlm.Options {
	return dlm.Options{Cluster: "lab", Self: 1, Addrs: addrs, Events: func(e dlm.Event) { events <- e }}
}

func open(t *testing.T, kind configfstest.Kernel) *node {
	t.Helper()
	return openWith(t, kind, func(*dlm.Options) {})
}

func openWith(t *testing.T, kind configfstest.Kernel, edit func(*dlm.Options)) *node {
	t.Helper()
	n := &node{t: t, k: dlmtest.New(kind, 1), events: make(chan dlm.Event, 1000)}
	o := n.k.Options(options(n.events))
	edit(&o)
	d, err := dlm.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	n.Driver = d
	t.Cleanup(func() {
		if err := d.Halt("the test is over"); err != nil {
			t.Error(err)
		}
		if v := n.k.Violations(); len(v) > 0 {
			t.Errorf("the kernel complains: %q", v)
		}
	})
	return n
}

// next waits for the next event of a type and gives those before it up.
func next[E dlm.Event](n *node) E {
	n.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case e := <-n.events:
			if e, ok := e.(E); ok {
				return e
			}
		case <-limit:
			var e E
			n.t.Fatalf("no %T came; busy: %v", e, n.Busy())
			return e
		}
	}
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) is(err, want error) {
	n.t.Helper()
	if !errors.Is(err, want) {
		n.t.Fatalf("error %v, want %v", err, want)
	}
}

func (n *node) equal(got, want any, what string) {
	n.t.Helper()
	if g, ok := got.([]string); ok && slices.Equal(g, want.([]string)) {
		return // nil or empty
	} else if ok {
		n.t.Fatalf("%s: %q, want %q", what, got, want)
	}
	if !reflect.DeepEqual(got, want) {
		n.t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

// busy waits until exactly these operations are under way: one that has just
// reported is still listed for a moment.
func (n *node) busy(want ...string) {
	n.t.Helper()
	var got []string
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); runtime.Gosched() {
		got = nil
		for _, o := range n.Busy() {
			got = append(got, o.Key+": "+o.What)
		}
		if slices.Equal(got, want) {
			return
		}
	}
	n.t.Fatalf("busy with %q, want %q", got, want)
}

func members(is ...membership.Incarnation) []dlm.Member {
	var ms []dlm.Member
	for _, i := range is {
		ms = append(ms, dlm.Member{Incarnation: i, Epoch: 1})
	}
	return ms
}

func (n *node) job(ls string, ms []dlm.Member, gone ...dlm.Gone) dlm.StartJob {
	n.token++
	return dlm.StartJob{Lockspace: ls, Token: n.token, ID: lockspace.ID(ls), Members: ms, Gone: gone}
}

func (n *node) start(j dlm.StartJob) {
	n.t.Helper()
	n.must(n.Start(j))
	done := next[dlm.StartDone](n)
	n.must(done.Err)
	n.equal(done.Token, j.Token, "token")
}

func (n *node) recovered(j dlm.StartJob) {
	n.t.Helper()
	r := next[dlm.Recovered](n)
	n.must(r.Err)
	n.equal(r.Token, j.Token, "token")
}

func (n *node) stop(ls string) {
	n.t.Helper()
	n.token++
	n.must(n.Stop(ls, n.token))
	s := next[dlm.StopDone](n)
	n.must(s.Err)
	n.equal(s.Token, n.token, "token")
}

func (n *node) setPeer(i membership.Incarnation) {
	n.t.Helper()
	n.must(n.SetPeer(i))
	n.must(next[dlm.PeerSet](n).Err)
}

func (n *node) removePeer(i membership.Incarnation) {
	n.t.Helper()
	n.must(n.RemovePeer(i))
	n.must(next[dlm.PeerRemoved](n).Err)
}

// mount joins a lockspace with the members.
func (n *node) mount(ls string, ms []dlm.Member) {
	n.t.Helper()
	res := n.k.Create(ls)
	n.equal(next[dlm.Online](n).Lockspace, ls, "online")
	j := n.job(ls, ms)
	j.Join = true
	n.start(j)
	n.recovered(j)
	n.must(<-res)
}

func TestJoinAndLeave(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	n.mount("gfs", members(inc(1, "a")))
	n.equal(n.k.Answers(), []string{"gfs 0"}, "answers")
	want := `dlm/cluster/spaces/gfs/nodes/1/weight`
	if _, err := n.k.Configfs.Read(want); err != nil {
		t.Fatal(err)
	}
	gone := n.k.Release("gfs", true)
	n.equal(next[dlm.Offline](n), dlm.Offline{Lockspace: "gfs", ReleaseRecover: true}, "offline")
	n.must(n.FinishLeave("gfs", 99))
	n.equal(next[dlm.LeaveDone](n), dlm.LeaveDone{Lockspace: "gfs", Token: 99}, "leave")
	<-gone
	next[dlm.Removed](n)
	if strings.Contains(n.k.Configfs.Dump(), "gfs") {
		t.Fatal("members are left in configfs\n" + n.k.Configfs.Dump())
	}
	n.equal(n.k.Answers(), []string{"gfs 0", "gfs 0"}, "answers")
	n.must(n.Close())
	if n.k.Monitored() || strings.Contains(n.k.Configfs.Dump(), "cluster") {
		t.Fatal("not closed")
	}
}

func TestMemberComesAndFails(t *testing.T) {
	for _, kind := range []configfstest.Kernel{configfstest.Linux6_1, configfstest.Linux6_17, configfstest.Linux6_18} {
		n := open(t, kind)
		a, b := inc(1, "a"), inc(2, "b")
		n.mount("gfs", members(a))
		n.setPeer(b)
		n.stop("gfs")
		j := n.job("gfs", members(a, b))
		n.start(j)
		n.recovered(j)
		n.stop("gfs")
		failed := dlm.Gone{Incarnation: b, Failed: true}
		if n.Features().ReleaseRecover != configfs.Yes {
			j = n.job("gfs", members(a), failed)
			n.must(n.Start(j))
			n.is(next[dlm.StartDone](n).Err, dlm.ErrPeer)
			n.removePeer(b)
			if n.k.Aborts(addrs[2][0]) == 0 {
				t.Fatal("connection attempts were not ended")
			}
		}
		j = n.job("gfs", members(a), failed)
		n.start(j)
		n.recovered(j)
		n.equal(n.k.Replayed(), []string{"gfs 2"}, "replayed")
		n.equal(n.k.Answers(), []string{"gfs 0"}, "answers")
	}
}

func TestCleanLeaveIsNotReplayed(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	a, b, c := inc(1, "a"), inc(2, "b"), inc(3, "c")
	n.setPeer(b)
	n.setPeer(c)
	n.mount("gfs", members(a, b, c))
	n.stop("gfs")
	j := n.job("gfs", members(a, c), dlm.Gone{Incarnation: b})
	n.start(j)
	n.recovered(j)
	n.equal(n.k.Replayed(), []string(nil), "replayed")
	n.stop("gfs")
	j = n.job("gfs", members(a), dlm.Gone{Incarnation: c, ReleaseRecover: true})
	n.start(j)
	n.recovered(j)
	n.equal(n.k.Replayed(), []string{"gfs 3"}, "replayed")
}

// A node that goes without a word is taken for failed.
func TestSilentGoneIsReplayed(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	a, b := inc(1, "a"), inc(2, "b")
	n.setPeer(b)
	n.mount("gfs", members(a, b))
	n.stop("gfs")
	n.start(n.job("gfs", members(a)))
	n.equal(n.k.Replayed(), []string{"gfs 2"}, "replayed")
}

// A node that left and came back between two starts is removed and made again.
func TestRenew(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	a, b, b2 := inc(1, "a"), inc(2, "b"), inc(2, "b2")
	n.setPeer(b)
	n.mount("gfs", members(a, b))
	n.stop("gfs")
	back := []dlm.Member{{Incarnation: a, Epoch: 1}, {Incarnation: b, Epoch: 7}}
	n.start(n.job("gfs", back, dlm.Gone{Incarnation: b}))
	n.equal(n.k.Replayed(), []string(nil), "replayed after a clean return")
	n.stop("gfs")
	n.setPeer(b2)
	n.start(n.job("gfs", members(a, b2), dlm.Gone{Incarnation: b, Failed: true}))
	n.equal(n.k.Replayed(), []string{"gfs 2"}, "replayed after another boot")
}

// A start that a stop overtook before recoverd saw it is told again (S21).
func TestOvertakenStart(t *testing.T) {
	for _, kind := range []configfstest.Kernel{configfstest.Linux6_1, configfstest.Linux6_18} {
		n := open(t, kind)
		a, b, c := inc(1, "a"), inc(2, "b"), inc(3, "c")
		n.setPeer(b)
		n.setPeer(c)
		n.mount("gfs", members(a, b, c))
		n.stop("gfs")
		n.k.Manual(true)
		n.removePeer(b)
		c2 := inc(3, "c2")
		n.setPeer(c2)
		gone := []dlm.Gone{{Incarnation: b, Failed: true}, {Incarnation: c, Failed: true}}
		n.start(n.job("gfs", members(a, c2), gone...))
		began := time.Now()
		n.stop("gfs") // the start was not noticed
		if took := time.Since(began); took < 50*time.Millisecond {
			t.Fatalf("the stop waited %s for the start to be noticed", took)
		}
		j := n.job("gfs", members(a, c2))
		n.start(j)
		n.k.Notice("gfs")
		n.equal(n.k.Replayed(), []string{"gfs 2", "gfs 3"}, "replayed")
		n.k.Finish("gfs")
		n.recovered(j)
	}
}

// A joiner that was started is refused as long as its recovery is not done.
func TestRefuseAfterStart(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	n.k.Manual(true)
	res := n.k.Create("gfs")
	next[dlm.Online](n)
	j := n.job("gfs", members(inc(1, "a")))
	j.Join = true
	n.start(j)
	n.must(n.Stop("gfs", 50))
	n.k.Notice("gfs")
	n.must(next[dlm.StopDone](n).Err)
	n.equal(n.k.Answers(), []string(nil), "answers before the first recovery")
	n.must(n.FailJoin("gfs", syscall.ETIMEDOUT, 51))
	n.equal(next[dlm.JoinFailed](n), dlm.JoinFailed{Lockspace: "gfs", Token: 51}, "failed")
	n.is(<-res, syscall.ETIMEDOUT)
	n.equal(n.k.Answers(), []string{"gfs -110"}, "answers")
}

// A refused joiner's connections end at both ends, but where ending an attempt to
// connect would wait.
func TestRenewPeer(t *testing.T) {
	connecting := tcpLine(addrs[1][0].String()+":40000", addrs[2][0].String()+":21064", 2, 1, 0)
	silent := tcpLine(addrs[1][0].String()+":40000", addrs[2][0].String()+":21064", 1, 100, 5)
	for _, c := range []struct {
		what    string
		kind    configfstest.Kernel
		abort   error
		line    string
		removed bool
	}{
		{"connecting", configfstest.Linux6_1, syscall.EOPNOTSUPP, connecting, true},
		{"connecting, the removal can be helped", configfstest.Linux6_18, nil, connecting, true},
		{"connecting, the removal could wait", configfstest.Linux6_18, syscall.EOPNOTSUPP, connecting, false},
		{"connected", configfstest.Linux6_18, syscall.EOPNOTSUPP, silent, true},
		{"nothing", configfstest.Linux6_18, syscall.EOPNOTSUPP, "", true},
	} {
		net := t.TempDir()
		n := openWith(t, c.kind, func(o *dlm.Options) { o.ProcNet = net })
		n.must(os.WriteFile(filepath.Join(net, "tcp"), []byte(tcpHead+c.line), 0o600))
		n.k.AbortFails(c.abort)
		b := inc(2, "b")
		n.setPeer(b)
		arrived, release := n.k.HoldComm(2)
		n.must(n.RenewPeer(b, "gfs", 7))
		if c.removed {
			<-arrived
		}
		release()
		e := next[dlm.PeerRenewed](n)
		n.must(e.Err)
		n.equal([]any{e.Incarnation, e.Lockspace, e.Epoch, len(e.Troubles) > 0}, []any{b, "gfs", uint64(7), c.line != ""}, c.what)
		if _, there, err := configfs.ReadComm(n.k.Configfs, 2); err != nil || !there {
			t.Errorf("%s: the entry is there: %v, %v", c.what, there, err)
		}
		n.is(n.RenewPeer(inc(1, "a"), "gfs", 8), dlm.ErrPeer)
	}
}

func TestConnectBlocks(t *testing.T) {
	for release, want := range map[string]bool{"6.1.0-39-amd64": false, "6.11": false, "5.14.0-503.el9": false, "6.12.48": true, "7.2.0": true, "": true, "x": true} {
		if got := dlm.ConnectBlocks(release); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}

// With Hold the recovery is reported and the join answered when told to, once.
func TestHeldAnswer(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	res := n.k.Create("gfs")
	next[dlm.Online](n)
	j := n.job("gfs", members(inc(1, "a")))
	j.Join, j.Hold = true, true
	n.start(j)
	n.recovered(j)
	n.equal(n.k.Answers(), []string(nil), "answers before AnswerJoin")
	n.must(n.AnswerJoin("gfs", 8))
	n.equal(next[dlm.JoinAnswered](n), dlm.JoinAnswered{Lockspace: "gfs", Token: 8}, "answered")
	n.must(<-res)
	n.must(n.AnswerJoin("gfs", 9))
	n.is(next[dlm.JoinAnswered](n).Err, dlm.ErrState)
	n.equal(n.k.Answers(), []string{"gfs 0"}, "answers")
}

// Every call in a wrong state is refused without a write (I6).
func TestWrongCalls(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	a := members(inc(1, "a"))
	wrong := func(ls string) {
		t.Helper()
		n.must(n.FinishLeave(ls, 1))
		n.is(next[dlm.LeaveDone](n).Err, dlm.ErrState)
		n.must(n.FailJoin(ls, syscall.EIO, 1))
		n.is(next[dlm.JoinFailed](n).Err, dlm.ErrState)
	}
	wrong("gfs")
	n.must(n.Stop("gfs", 1))
	n.is(next[dlm.StopDone](n).Err, dlm.ErrState)
	n.must(n.Start(n.job("gfs", a)))
	n.is(next[dlm.StartDone](n).Err, dlm.ErrState)
	n.mount("gfs", a)
	wrong("gfs")
	n.must(n.Start(n.job("gfs", a)))
	n.is(next[dlm.StartDone](n).Err, dlm.ErrState) // it runs
	n.equal(n.k.Answers(), []string{"gfs 0"}, "answers")
	n.is(n.Close(), dlm.ErrHeld)
	n.is(n.Quiesce(), dlm.ErrHeld)
	if !n.k.Monitored() {
		t.Fatal("the monitor was closed with a lockspace")
	}
}

func TestStartArguments(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	a := inc(1, "a")
	n.is(n.Start(n.job("a/b", members(a))), dlm.ErrName)
	n.is(n.Start(n.job("gfs", nil)), dlm.ErrMembers)
	n.is(n.Start(n.job("gfs", members(a, a))), dlm.ErrMembers)
	n.is(n.Start(n.job("gfs", members(inc(2, "b")))), dlm.ErrMembers)
	j := n.job("gfs", members(a))
	j.ID = 0
	n.is(n.Start(j), dlm.ErrID)
	n.is(n.FailJoin("gfs", 0, 1), dlm.ErrState)
	n.is(n.SetPeer(inc(1, "x")), dlm.ErrPeer)
	n.is(n.RemovePeer(inc(1, "x")), dlm.ErrPeer)
	n.must(n.SetPeer(inc(9, "x")))
	n.is(next[dlm.PeerSet](n).Err, dlm.ErrPeer)
}

func TestSameID(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	n.mount("one", members(inc(1, "a")))
	res := n.k.Create("two")
	next[dlm.Online](n)
	j := n.job("two", members(inc(1, "a")))
	j.ID, j.Join = lockspace.ID("one"), true
	n.must(n.Start(j))
	n.is(next[dlm.StartDone](n).Err, dlm.ErrID)
	n.must(n.FailJoin("two", syscall.EEXIST, 3))
	n.must(next[dlm.JoinFailed](n).Err)
	n.is(<-res, syscall.EEXIST)
}

func TestNameWithSlash(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	n.is(<-n.k.Create("a/b"), syscall.EINVAL)
	f := next[dlm.JoinFailed](n)
	n.is(f.Err, dlm.ErrName)
	n.equal(f.Lockspace, "a/b", "name")
	n.equal(n.k.Answers(), []string{"a/b -22"}, "answers")
}

// A start waits for the comms entries of its members.
func TestStartAwaitsPeer(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	a, b, b2 := inc(1, "a"), inc(2, "b"), inc(2, "b2")
	n.mount("gfs", members(a))
	n.setPeer(b)
	n.stop("gfs")
	arrived, release := n.k.HoldComm(2)
	n.must(n.RemovePeer(b))
	<-arrived
	n.must(n.SetPeer(b2))
	n.must(n.Start(n.job("gfs", members(a, b2))))
	n.busy("lockspace gfs: start", "peer 2: remove-peer", "peer 2: set-peer")
	release()
	n.must(next[dlm.StartDone](n).Err)
	n.equal(len(n.k.Members("gfs")), 2, "members")
	n.stop("gfs")
	n.must(n.Start(n.job("gfs", members(a, inc(2, "other")))))
	n.is(next[dlm.StartDone](n).Err, dlm.ErrPeer)
}

func TestRemovePeerOfAnotherLife(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	n.setPeer(inc(2, "new"))
	n.removePeer(inc(2, "old"))
	if n.k.Configfs.Comm(2) == 0 {
		t.Fatal("the new incarnation's entry is gone")
	}
	seq := n.k.Configfs.Comm(2)
	n.setPeer(inc(2, "new"))
	n.equal(n.k.Configfs.Comm(2), seq, "sequence after the same once more")
	n.k.AbortFails(syscall.EOPNOTSUPP)
	n.removePeer(inc(2, "new"))
	n.equal(n.k.Configfs.Comm(2), uint32(0), "sequence")
}

// A removal that waits for an attempt to connect is helped as the kernel allows.
func TestRemovalThatWaits(t *testing.T) {
	for _, c := range []struct {
		kind    configfstest.Kernel
		abort   error
		forgets bool
	}{
		{configfstest.Linux6_18, nil, false},
		{configfstest.Linux6_18, syscall.EOPNOTSUPP, true},
		{configfstest.Linux6_18, syscall.EMFILE, true},     // the attempt is still there
		{configfstest.Linux6_1, syscall.EOPNOTSUPP, false}, // there it does not wait
	} {
		n := openWith(t, c.kind, func(o *dlm.Options) { o.Links = links })
		n.k.AbortFails(c.abort)
		n.setPeer(inc(2, "b"))
		arrived, release := n.k.HoldComm(2)
		n.must(n.RemovePeer(inc(2, "b")))
		<-arrived
		begun, forgotten := n.k.Aborts(addrs[2][0]), n.k.Forgotten(addrs[2][0])
		helped := func() []any {
			return []any{n.k.Aborts(addrs[2][0]) > begun, n.k.Forgotten(addrs[2][0]) > forgotten}
		}
		want := []any{true, c.forgets}
		for over := time.Now().Add(5 * time.Second); !reflect.DeepEqual(helped(), want) && time.Now().Before(over); {
			time.Sleep(10 * time.Millisecond)
		}
		n.equal(helped(), want, "helped again while it waits")
		release()
		n.must(next[dlm.PeerRemoved](n).Err)
		n.equal(n.k.Forgotten(addrs[2][0]) > 0, c.forgets, "forgotten")
		if own := slices.Concat(addrs[2], links[2]); c.forgets && !slices.Equal(n.k.Own(addrs[2][0]), own) {
			t.Errorf("the peer has %v, want %v", n.k.Own(addrs[2][0]), own)
		}
	}
}

// comes waits for what is to happen soon.
func (n *node) comes(what string, is func() bool) {
	n.t.Helper()
	for over := time.Now().Add(10 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(over) {
			n.t.Fatalf("it never came: %s", what)
		}
	}
}

// Without an attempt the kernel does not say that it cannot end one: it is asked each time.
func TestAttemptDuringRemoval(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	n.setPeer(inc(2, "b"))
	arrived, release := n.k.HoldComm(2)
	n.must(n.RemovePeer(inc(2, "b")))
	<-arrived
	to := addrs[2][0]
	n.equal(n.k.Forgotten(to), 0, "forgotten while no attempt fails to end")
	n.k.AbortFails(syscall.EOPNOTSUPP)
	n.comes("forgotten", func() bool { return n.k.Forgotten(to) > 0 })
	n.k.AbortFails(nil)
	begun := n.k.Aborts(to)
	n.comes("aborted", func() bool { return n.k.Aborts(to) > begun+1 })
	was := n.k.Forgotten(to)
	begun = n.k.Aborts(to)
	n.comes("aborted", func() bool { return n.k.Aborts(to) > begun+1 })
	n.equal(n.k.Forgotten(to), was, "forgotten since attempts can be ended")
	release()
	n.must(next[dlm.PeerRemoved](n).Err)
}

// Several dead nodes are removed, and nothing can be done: each removal says so once.
func TestRemovalsWithoutHelp(t *testing.T) {
	var log transcript.Buffer
	n := openWith(t, configfstest.Linux6_18, func(o *dlm.Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	n.k.AbortFails(syscall.EOPNOTSUPP)
	n.k.ForgetFails(dlm.ErrNeighbour)
	dead := []membership.NodeID{2, 3}
	var releases []func()
	for _, id := range dead {
		n.setPeer(inc(id, "x"))
	}
	begun := len(log.String())
	for _, id := range dead {
		arrived, release := n.k.HoldComm(uint32(id))
		n.must(n.RemovePeer(inc(id, "x")))
		<-arrived
		releases = append(releases, release)
	}
	for _, id := range dead {
		was := n.k.Forgotten(addrs[id][0])
		n.comes("asked for anew", func() bool { return n.k.Forgotten(addrs[id][0]) > was+2 })
	}
	for _, release := range releases {
		release()
		n.must(next[dlm.PeerRemoved](n).Err)
	}
	text := log.String()[begun:]
	for _, to := range []netip.Addr{addrs[2][0], addrs[2][1], addrs[3][0]} {
		var lines []string
		for l := range strings.Lines(text) {
			if strings.Contains(l, " to="+to.String()+" ") {
				lines = append(lines, l)
			}
		}
		if len(lines) != 2 || !strings.Contains(lines[0], "level=DEBUG") || !strings.Contains(lines[1], "level=WARN") || !strings.Contains(lines[1], dlm.ErrNeighbour.Error()) {
			t.Errorf("%s: %q", to, lines)
		}
	}
}

// A blocked stop holds up nothing but its own lockspace.
func TestBlockedStop(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	n.mount("slow", members(inc(1, "a")))
	n.mount("fast", members(inc(1, "a")))
	arrived, release := n.k.HoldStop("slow")
	n.must(n.Stop("slow", 100))
	<-arrived
	n.stop("fast")
	n.busy("lockspace slow: stop")
	release()
	n.equal(next[dlm.StopDone](n).Token, uint64(100), "token")
}

// Nothing of a start is reported after Stop.
func TestStopVoidsRecovered(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	n.mount("gfs", members(inc(1, "a")))
	n.stop("gfs")
	n.k.Manual(true)
	n.start(n.job("gfs", members(inc(1, "a"))))
	n.k.Notice("gfs")
	n.stop("gfs")
	n.k.Finish("gfs")
	j := n.job("gfs", members(inc(1, "a")))
	n.start(j)
	n.k.Notice("gfs")
	n.k.Finish("gfs")
	n.recovered(j)
}

func TestLostUevents(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	n.mount("old", members(inc(1, "a")))
	n.mount("gone", members(inc(1, "a")))
	n.k.LoseUevents(true)
	res := n.k.Create("new")
	n.k.LoseUevents(false)
	o := next[dlm.Overrun](n)
	n.equal(o.Doubtful, []string{"gone", "old"}, "doubtful")
	n.equal(next[dlm.Online](n).Lockspace, "new", "online")
	j := n.job("new", members(inc(1, "a")))
	j.Join = true
	n.start(j)
	n.recovered(j)
	n.must(<-res)
	left := n.k.Release("gone", false)
	next[dlm.Offline](n)
	n.k.LoseUevents(true)
	n.must(n.FinishLeave("gone", 3))
	n.must(next[dlm.LeaveDone](n).Err)
	<-left
	n.k.LoseUevents(false)
	n.equal(next[dlm.Removed](n).Lockspace, "gone", "removed")
}

// A lockspace that was refused and came again while nobody listened is answered
// once more, but only after the old object had time to go (I6).
func TestLostNewLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, configfstest.Linux6_18)
		res := n.k.Create("gfs")
		next[dlm.Online](n)
		n.k.LoseUevents(true)
		n.must(n.FailJoin("gfs", syscall.EAGAIN, 1))
		n.must(next[dlm.JoinFailed](n).Err)
		n.is(<-res, syscall.EAGAIN)
		res = n.k.Create("gfs")
		began := time.Now()
		n.k.LoseUevents(false)
		n.equal(next[dlm.Online](n).Lockspace, "gfs", "online")
		if took := time.Since(began); took < 2*time.Second {
			t.Fatalf("taken for a new one after %s", took)
		}
		n.must(n.FailJoin("gfs", syscall.EINTR, 2))
		n.is(<-res, syscall.EINTR)
		n.equal(n.k.Answers(), []string{"gfs -11", "gfs -4"}, "answers")
		next[dlm.Removed](n)
	})
}

func TestUncontrolled(t *testing.T) {
	k := dlmtest.New(configfstest.Linux6_18, 1)
	n := &node{t: t, k: k, events: make(chan dlm.Event, 100)}
	d, err := dlm.Open(k.Options(options(n.events)))
	n.must(err)
	n.Driver = d
	n.mount("gfs", members(inc(1, "a")))
	n.must(d.Halt("a test"))
	if k.Monitored() {
		t.Fatal("the monitor is open after Halt")
	}
	n.is(<-k.Create("other"), syscall.EUNATCH)
	o := k.Options(options(n.events))
	_, err = dlm.Open(o)
	n.is(err, dlm.ErrUncontrolled)
	if !strings.Contains(err.Error(), "gfs") {
		t.Fatalf("%v does not name the lockspace", err)
	}
	if !strings.Contains(k.Configfs.Dump(), "gfs") {
		t.Fatal("a failed Open cleared what lockspaces need")
	}
	n.is(d.Stop("gfs", 1), dlm.ErrClosed)
}

// What an earlier run left in configfs is cleared, another cluster's name too.
func TestLeftovers(t *testing.T) {
	k := dlmtest.New(configfstest.Linux6_1, 1)
	for _, p := range []string{"dlm/other", "dlm/other/comms/7", "dlm/other/spaces/x", "dlm/other/spaces/x/nodes/7"} {
		if err := k.Configfs.Mkdir(p); err != nil {
			t.Fatal(err)
		}
	}
	events := make(chan dlm.Event, 10)
	d, err := dlm.Open(k.Options(options(events)))
	if err != nil {
		t.Fatal(err)
	}
	want := "dlm/\ndlm/cluster/\n"
	if got := k.Configfs.Dump(); !strings.HasPrefix(got, want) || strings.Contains(got, "other") {
		t.Fatal(got)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestQuiesce(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	n.must(n.Quiesce())
	n.is(<-n.k.Create("gfs"), syscall.EUNATCH)
	n.must(n.Resume())
	n.mount("gfs", members(inc(1, "a")))
}

// A driver that ends while mounts wait refuses them and leaves a kernel that another
// driver can have; with a lockspace that was started it cannot.
func TestRelease(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	one, two := n.k.Create("one"), n.k.Create("two")
	next[dlm.Online](n)
	next[dlm.Online](n)
	n.must(n.Release(syscall.EAGAIN))
	n.is(<-one, syscall.EAGAIN)
	n.is(<-two, syscall.EAGAIN)
	n.is(<-n.k.Create("late"), syscall.EUNATCH)
	n.must(n.Halt("it has ended"))
	n.must(n.Close())
	another, err := dlm.Open(n.k.Options(options(n.events)))
	n.must(err)
	n.must(another.Close())

	n = open(t, configfstest.Linux6_18)
	n.mount("one", members(inc(1, "a")))
	two = n.k.Create("two")
	next[dlm.Online](n)
	began := time.Now()
	n.is(n.Release(syscall.EAGAIN), dlm.ErrHeld)
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v to see that it cannot be", took)
	}
	n.is(<-two, syscall.EAGAIN)
	n.must(n.Halt("the end of the test"))
}

func TestGFS2Events(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	send := func(action string, env ...string) {
		n.k.Uevent(action, "/fs/gfs2/lab:gfs", "gfs2", append(env, "LOCKTABLE=lab:gfs", "LOCKPROTO=lock_dlm")...)
	}
	send("add")
	n.equal(next[dlm.Mounting](n), dlm.Mounting{Table: "lab:gfs"}, "mounting")
	send("change", "JID=2", "RECOVERY=Done")
	n.equal(next[dlm.Journal](n), dlm.Journal{Table: "lab:gfs", JID: 2, OK: true}, "journal")
	send("change", "FIRSTMOUNT=Done")
	next[dlm.FirstMount](n)
	send("online", "JOURNALID=0")
	n.equal(next[dlm.Mounted](n), dlm.Mounted{Table: "lab:gfs"}, "mounted")
	send("offline")
	next[dlm.Withdrawn](n)
	n.k.Uevent("remove", "/fs/gfs2/lab:gfs", "gfs2")
	n.equal(next[dlm.Unmounted](n), dlm.Unmounted{Table: "lab:gfs"}, "unmounted")
}

func TestPlocksAreRefused(t *testing.T) {
	n := open(t, configfstest.Linux6_18)
	op := make([]byte, 64)
	op[0], op[12], op[14] = 1, 1, 1
	got := n.k.Plock(op)
	if r := int8(got[24]); syscall.Errno(-r) != syscall.ENOSYS {
		t.Fatalf("answer %d", r)
	}
}

func TestOpenRefuses(t *testing.T) {
	events := make(chan dlm.Event, 1)
	for name, spoil := range map[string]func(*dlm.Options){
		"no self":    func(o *dlm.Options) { o.Self = 0 },
		"no cluster": func(o *dlm.Options) { o.Cluster = "" },
		"no address": func(o *dlm.Options) { o.Self = 9 },
		"no events":  func(o *dlm.Options) { o.Events = nil },
		"mixed": func(o *dlm.Options) {
			o.Addrs = map[membership.NodeID][]netip.Addr{1: addrs[1], 2: {netip.IPv6Loopback()}}
		},
		"long name":   func(o *dlm.Options) { o.Cluster = strings.Repeat("x", 64) },
		"peerless id": func(o *dlm.Options) { o.Addrs = map[membership.NodeID][]netip.Addr{1: addrs[1], 2: nil} },
	} {
		o := dlmtest.New(configfstest.Linux6_1, 1).Options(options(events))
		spoil(&o)
		if d, err := dlm.Open(o); !errors.Is(err, dlm.ErrMembers) {
			t.Errorf("%s: %v, %v", name, d, err)
		}
	}
}
