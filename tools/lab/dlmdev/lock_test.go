package dlmdev

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kernel is a device with one resource that answers as the DLM does.
type kernel struct {
	t       *testing.T
	results [][]byte
	refuse  error // of the next write
	status  int32 // of the next lock or conversion
	value   Value // of the resource
	flags   uint8
	held    uint8 // mode
	closed  bool
}

func (k *kernel) Close() error { k.closed = true; return nil }

func (k *kernel) write(b []byte) (int, error) {
	if k.refuse != nil {
		return 0, k.refuse
	}
	q := *as[cWriteRequest](k.t, b)
	r := cLockResult{astparam: q.lock.castparam, lksb: cLksb{lkid: 77, flags: k.flags, status: k.status}}
	if q.lock.castaddr == 0 || q.lock.lksbp == 0 || q.lock.flags&uint32(valueBlock) == 0 {
		return 0, unix.EINVAL
	}
	if q.cmd == uint8(cmdUnlock) || q.lock.flags&uint32(convert) != 0 {
		if q.lock.lkid != 77 {
			return 0, unix.EINVAL
		}
		if k.held >= uint8(PW) && q.lock.mode < k.held {
			k.value = q.lock.lvb
		}
	}
	k.held = q.lock.mode
	if q.cmd == uint8(cmdUnlock) {
		r.lksb.status = statusUnlocked
	}
	r.value = k.value
	// Somebody else waits for the lock; that is no answer.
	k.results = append(k.results, resultBytes(cLockResult{astparam: q.lock.castparam, bastMode: uint8(EX)}, false),
		resultBytes(r, q.cmd == uint8(cmdLock) && k.status == 0))
	return 77, nil
}

func (k *kernel) read(b []byte, limit time.Duration) (int, error) {
	if len(k.results) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(b, k.results[0])
	k.results = k.results[1:]
	return n, nil
}

func TestLockConvertUnlock(t *testing.T) {
	k := &kernel{t: t, value: Value{42}}
	ls := &Lockspace{port: k}
	l, err := ls.Lock("r", EX, 0)
	if err != nil || l.Value != (Value{42}) || l.ValueLost || l.Mode != EX {
		t.Fatalf("%+v, %v", l, err)
	}
	l.Value = Value{43}
	if err := l.Convert(NL, 0); err != nil || k.value != (Value{43}) || l.Mode != NL {
		t.Fatalf("%+v %v, %v", l, k.value, err)
	}
	k.value, k.flags = Value{50}, valueNotValid
	if err := l.Convert(PW, NoQueue); err != nil || l.Value != (Value{50}) || !l.ValueLost {
		t.Fatalf("%+v, %v", l, err)
	}
	l.Value = Value{51}
	if err := l.Unlock(); err != nil || k.value != (Value{51}) {
		t.Fatalf("%v, %v", k.value, err)
	}
	if err := ls.Close(); err != nil || !k.closed {
		t.Errorf("closed %v, %v", k.closed, err)
	}
}

func TestRefusals(t *testing.T) {
	k := &kernel{t: t, status: -int32(unix.EAGAIN)}
	ls := &Lockspace{port: k}
	if _, err := ls.Lock("r", EX, NoQueue); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("a lock that others hold: %v", err)
	}
	k.status = -0x10001
	if _, err := ls.Lock("r", EX, 0); err == nil || !strings.Contains(err.Error(), "-65537") {
		t.Errorf("a status that is no errno: %v", err)
	}
	k.refuse = unix.EINVAL
	if _, err := ls.Lock("r", EX, 0); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a write that is refused: %v", err)
	}
	for _, name := range []string{"", strings.Repeat("x", MaxName+1)} {
		if _, err := ls.Lock(name, EX, 0); err == nil {
			t.Errorf("resource %q has a lock", name)
		}
		if err := Create(name, false); err == nil {
			t.Errorf("lockspace %q was created", name)
		}
	}
	if err := Create("a/b", false); err == nil {
		t.Error("a lockspace with a slash was created")
	}
}

func TestFolders(t *testing.T) {
	s := folders{misc: t.TempDir(), dev: t.TempDir()}
	for name, text := range map[string]string{"null": "1:3\n", "bad": "x\n", "gone": "10:-3\n"} {
		if err := os.Mkdir(filepath.Join(s.misc, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.misc, name, "dev"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bad", "gone", "none"} {
		if p, err := s.open(name); err == nil {
			t.Errorf("%s is open: %v", name, p)
		}
	}
	if n, err := s.number("null"); err != nil || unix.Major(n) != 1 || unix.Minor(n) != 3 {
		t.Errorf("%x, %v", n, err)
	}
	if os.Geteuid() != 0 {
		return // device nodes are root's
	}
	p, err := s.open("null")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if n, err := p.write([]byte("abc")); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := p.read(make([]byte, 3), time.Second); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if left, err := os.ReadDir(s.dev); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestReadLimit(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w := device(fds[0]), device(fds[1])
	defer w.Close()
	defer r.Close()
	if _, err := r.read(make([]byte, 1), 5*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nothing to read: %v", err)
	}
	if _, err := w.write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := r.read(make([]byte, 1), time.Second); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
