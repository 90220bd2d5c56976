package dlmdev

import (
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// port is an open device.
type port interface {
	io.Closer
	// write sends a request. What it returns is not a length: a minor number, a
	// lock's id or 0.
	write(b []byte) (int, error)
	// read waits for a result; limit 0 is for ever.
	read(b []byte, limit time.Duration) (int, error)
}

// Lockspace is an open lockspace. It is for one goroutine, with one request at a
// time; open it again for another.
type Lockspace struct {
	// Limit is how long one request may take, 0: for ever. The handle is of no
	// use after an os.ErrDeadlineExceeded but for Close.
	Limit time.Duration

	port   port
	cookie uint64
}

// Close gives every lock back that was taken with it.
func (l *Lockspace) Close() error { return l.port.Close() }

// Lock is a lock that is held.
type Lock struct {
	Resource string
	Mode     Mode
	// Value is the resource's value block when the lock was granted or last
	// converted to a mode as strong. Set it before giving up PW or EX.
	Value Value
	// ValueLost: a holder of PW or EX died, and what it may have written is lost.
	ValueLost bool

	ls *Lockspace
	id uint32
}

// Lock waits for a lock, or with NoQueue is refused with unix.EAGAIN.
func (l *Lockspace) Lock(resource string, m Mode, f Flags) (*Lock, error) {
	if resource == "" || len(resource) > MaxName {
		return nil, fmt.Errorf("resource %q: the name has 1 to %d bytes", resource, MaxName)
	}
	r, err := l.ask(lockRequest{cmd: cmdLock, mode: m, flags: f | valueBlock, name: resource}, 0)
	if err != nil {
		return nil, fmt.Errorf("lock %s %s: %w", resource, m, err)
	}
	k := &Lock{Resource: resource, ls: l, id: r.id}
	k.granted(m, r)
	return k, nil
}

// Convert waits until the lock is held in another mode.
func (k *Lock) Convert(m Mode, f Flags) error {
	r, err := k.ls.ask(lockRequest{cmd: cmdLock, mode: m, flags: f | convert | valueBlock, id: k.id, value: k.Value}, 0)
	if err != nil {
		return fmt.Errorf("convert %s from %s to %s: %w", k.Resource, k.Mode, m, err)
	}
	k.granted(m, r)
	return nil
}

// Unlock gives the lock up.
func (k *Lock) Unlock() error {
	_, err := k.ls.ask(lockRequest{cmd: cmdUnlock, flags: valueBlock, id: k.id, value: k.Value}, statusUnlocked)
	if err != nil {
		return fmt.Errorf("unlock %s: %w", k.Resource, err)
	}
	return nil
}

func (k *Lock) granted(m Mode, r result) {
	k.Mode, k.ValueLost = m, r.flags&valueNotValid != 0
	if r.value != nil {
		k.Value = *r.value
	}
}

// ask sends a request and waits until it is done, with the status wanted.
func (l *Lockspace) ask(q lockRequest, want int32) (r result, err error) {
	l.cookie++
	q.cookie = l.cookie
	if _, err := l.port.write(q.encode()); err != nil {
		return r, err
	}
	buf := make([]byte, resultLen+ValueLen)
	for {
		n, err := l.port.read(buf, l.Limit)
		if err != nil {
			return r, err
		}
		if r, err = parseResult(buf[:n]); err != nil {
			return r, err
		}
		if r.cookie == q.cookie && r.blocking == NL {
			break
		}
	}
	switch {
	case r.status == want:
		return r, nil
	case r.status < 0 && r.status > -4096:
		return r, syscall.Errno(-r.status)
	}
	return r, fmt.Errorf("the kernel says %d", r.status)
}

// Create joins a lockspace and waits for it. Once more than Release was called,
// it is there; exclusive refuses with unix.EEXIST where it is there already.
func Create(name string, exclusive bool) error {
	if name == "" || len(name) > MaxName || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("lockspace %q: the name has 1 to %d bytes and no slash", name, MaxName)
	}
	r := spaceRequest{cmd: cmdCreate, name: name}
	if exclusive {
		r.flags = newExclusive
	}
	return control("create lockspace "+name, r)
}

// Release leaves a lockspace. With locks of this node it is refused with
// unix.EBUSY, unless forced; it waits for who has the device open.
func Release(name string, force bool) error {
	dev, err := system.number(spaceDevice(name))
	if err != nil {
		return err
	}
	r := spaceRequest{cmd: cmdRelease, minor: unix.Minor(dev)}
	if force {
		r.flags = forceFree
	}
	return control("release lockspace "+name, r)
}

func control(what string, r spaceRequest) error {
	c, err := system.open("dlm-control")
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.write(r.encode()); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Open opens a lockspace that this node has created.
func Open(name string) (*Lockspace, error) {
	p, err := system.open(spaceDevice(name))
	if err != nil {
		return nil, err
	}
	return &Lockspace{port: p}, nil
}

func spaceDevice(lockspace string) string { return "dlm_" + lockspace }
