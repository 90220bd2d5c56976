package dlmtest

import (
	"os"
	"sync"
	"syscall"

	"github.com/quorate/quorate/kbridge/dlm"
)

type devices struct{ k *Kernel }

// Monitor implements dlm.Devices.
func (d devices) Monitor() (dlm.Device, error) {
	d.k.mu.Lock()
	defer d.k.mu.Unlock()
	if d.k.Configfs.Local() != 0 && !d.k.opened {
		d.k.violate("the local comm was there before the monitor was opened")
	}
	d.k.monitor++
	d.k.opened = true
	return &device{close: d.k.unmonitor, gone: make(chan struct{})}, nil
}

// Plock implements dlm.Devices.
func (d devices) Plock() (dlm.Device, error) {
	return &device{ops: d.k.plocks, replies: d.k.replies, close: func() {}, gone: make(chan struct{})}, nil
}

// unmonitor is the last close of dlm-monitor: what runs is stopped.
func (k *Kernel) unmonitor() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.monitor--; k.monitor > 0 {
		return
	}
	for _, ls := range k.spaces {
		ls.status = 0
		ls.running = false
	}
}

// device is an open misc device.
type device struct {
	ops     chan []byte
	replies chan []byte
	close   func()
	once    sync.Once
	gone    chan struct{}
}

func (d *device) Read(b []byte) (int, error) {
	select {
	case op := <-d.ops:
		return copy(b, op), nil
	case <-d.gone:
		return 0, os.ErrClosed
	}
}

func (d *device) Write(b []byte) (int, error) {
	if d.replies == nil {
		return 0, syscall.EINVAL
	}
	d.replies <- append([]byte(nil), b...)
	return len(b), nil
}

func (d *device) Close() error {
	d.once.Do(func() { d.close(); close(d.gone) })
	return nil
}
