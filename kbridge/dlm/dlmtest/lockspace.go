package dlmtest

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/quorate/quorate/configfs"
	"github.com/quorate/quorate/configfs/configfstest"
)

// lockspace is one lockspace object.
type lockspace struct {
	name    string
	id      uint32
	status  uint32
	running bool
	waits   bool     // somebody waits for event_done
	done    chan int // its value
	first   chan error
	pending *sampled
	members map[uint32]configfstest.Member
}

// sampled is a start that recoverd has not taken up.
type sampled struct {
	members []configfstest.Member
	gone    []configfstest.Gone
}

// Create is what a mount does: it asks to join and waits. The channel gives what
// the mount gets.
func (k *Kernel) Create(name string) <-chan error {
	res := make(chan error, 1)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.opened && k.monitor == 0:
		res <- syscall.EUNATCH
		return res
	case k.Configfs.Local() == 0:
		res <- syscall.ENOTCONN
		return res
	}
	ls := &lockspace{name: name, done: make(chan int, 1), first: make(chan error, 1), members: map[uint32]configfstest.Member{}}
	k.spaces[sysfsName(name)] = ls
	k.tell(ls, "add")
	k.await(ls, "online")
	go func() { res <- k.join(ls) }()
	return res
}

func sysfsName(ls string) string { return strings.ReplaceAll(ls, "/", "!") }

func (k *Kernel) tell(ls *lockspace, action string, env ...string) {
	k.uevent(action, "/kernel/dlm/"+sysfsName(ls.name), "dlm", append(env, "LOCKSPACE="+ls.name)...)
}

func (k *Kernel) await(ls *lockspace, action string, env ...string) {
	ls.waits = true
	k.tell(ls, action, env...)
}

func (k *Kernel) join(ls *lockspace) error {
	if v := <-ls.done; v < 0 {
		k.remove(ls)
		return syscall.Errno(-v)
	}
	err := <-ls.first
	if err != nil {
		k.mu.Lock()
		k.await(ls, "offline")
		k.mu.Unlock()
		<-ls.done
		k.remove(ls)
	}
	return err
}

func (k *Kernel) remove(ls *lockspace) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.spaces[sysfsName(ls.name)] == ls {
		delete(k.spaces, sysfsName(ls.name))
	}
	k.tell(ls, "remove")
}

// Release is what an unmount does. The channel is closed when it is through.
func (k *Kernel) Release(name string, recover bool) <-chan struct{} {
	res := make(chan struct{})
	k.mu.Lock()
	defer k.mu.Unlock()
	ls := k.spaces[sysfsName(name)]
	var env []string
	if k.kind.ReleaseRecover {
		env = []string{"RELEASE_RECOVER=" + map[bool]string{true: "1", false: "0"}[recover]}
	}
	k.await(ls, "offline", env...)
	go func() { <-ls.done; k.remove(ls); close(res) }()
	return res
}

// Notice lets recoverd take up the last start of a lockspace.
func (k *Kernel) Notice(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.notice(k.spaces[sysfsName(name)])
}

// Finish ends the recovery of a lockspace.
func (k *Kernel) Finish(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.finish(k.spaces[sysfsName(name)])
}

// Members are the members of a lockspace as the kernel has them.
func (k *Kernel) Members(name string) []uint32 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if ls := k.spaces[sysfsName(name)]; ls != nil {
		return slices.Sorted(maps.Keys(ls.members))
	}
	return nil
}

func (k *Kernel) stop(ls *lockspace) {
	ls.pending, ls.status, ls.running = nil, 0, false
}

func (k *Kernel) start(ls *lockspace) {
	if ls.running {
		k.violate("%s: control=1 without control=0 before it", ls.name)
		return
	}
	if ls.id == 0 {
		k.violate("%s: control=1 without an id", ls.name)
	}
	members, gone, err := k.Configfs.Sample(ls.name)
	if err != nil {
		k.violate("%v", err)
		return
	}
	ls.running = true
	ls.pending = &sampled{members: members, gone: gone}
	if !k.manual {
		k.notice(ls)
		k.finish(ls)
	}
}

// notice is dlm_recover_members.
func (k *Kernel) notice(ls *lockspace) {
	p := ls.pending
	if p == nil {
		return
	}
	ls.pending = nil
	now := map[uint32]configfstest.Member{}
	for _, m := range p.members {
		now[m.Node] = m
	}
	gone := map[uint32]configfstest.Gone{}
	for _, g := range p.gone {
		gone[g.Node] = g
	}
	for _, n := range slices.Sorted(maps.Keys(ls.members)) {
		m, stays := now[n]
		if stays && !m.New {
			continue
		}
		g, known := gone[n]
		if k.kind.ReleaseRecover && !known {
			k.violate("%s: member %d is neither there nor gone (EFAULT)", ls.name, n)
			return
		}
		if g.Recover || k.Configfs.Comm(n) != ls.members[n].Seq {
			k.replayed = append(k.replayed, fmt.Sprintf("%s %d", ls.name, n))
		}
		delete(ls.members, n)
	}
	for n, m := range now {
		if _, old := ls.members[n]; !old {
			ls.members[n] = m
		}
	}
	ls.status = 0x01
}

func (k *Kernel) finish(ls *lockspace) {
	if ls.status == 0 {
		return
	}
	ls.status = 0x55
	if slices.Min(slices.Collect(maps.Keys(ls.members))) == k.self {
		ls.status = 0xff
	}
	select {
	case ls.first <- nil:
	default:
	}
}

// sysfs is /sys/kernel/dlm.
type sysfs struct{ k *Kernel }

var _ configfs.FS = sysfs{}

func (sysfs) Mkdir(string) error { return syscall.EPERM }
func (sysfs) Rmdir(string) error { return syscall.EPERM }

func (s sysfs) List(p string) ([]string, error) {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	if p != "." {
		return nil, syscall.ENOENT
	}
	return slices.Sorted(maps.Keys(s.k.spaces)), nil
}

func (s sysfs) Read(p string) ([]byte, error) {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	ls := s.k.spaces[path.Dir(p)]
	if ls == nil {
		return nil, &configfs.OpError{Op: "read", Path: p, Err: syscall.ENOENT}
	}
	switch path.Base(p) {
	case "id":
		return fmt.Appendf(nil, "%d\n", ls.id), nil
	case "recover_status":
		return fmt.Appendf(nil, "%x\n", ls.status), nil
	}
	return nil, &configfs.OpError{Op: "read", Path: p, Err: syscall.EACCES}
}

func (s sysfs) Write(p string, v []byte) error {
	if path.Base(p) == "control" && string(v) == "0" {
		s.k.gate("stop " + path.Dir(p))
	}
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	ls := s.k.spaces[path.Dir(p)]
	if ls == nil {
		return &configfs.OpError{Op: "write", Path: p, Err: syscall.ENOENT}
	}
	n, err := strconv.ParseInt(string(v), 0, 64)
	if err != nil {
		return &configfs.OpError{Op: "write", Path: p, Err: syscall.EINVAL}
	}
	switch path.Base(p) {
	case "control":
		if n == 0 {
			s.k.stop(ls)
		} else {
			s.k.start(ls)
		}
	case "event_done":
		s.k.answer(ls, int(n))
	case "id":
		ls.id = uint32(n)
	}
	return nil
}

func (k *Kernel) answer(ls *lockspace, v int) {
	k.answers = append(k.answers, fmt.Sprintf("%s %d", ls.name, v))
	if !ls.waits {
		k.violate("%s: event_done=%d and nobody waits", ls.name, v)
		return
	}
	ls.waits = false
	ls.done <- v
}
