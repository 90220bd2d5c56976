package dlm

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// POSIX locks of GFS2 and OCFS2 come through dlm_plock and wait there, in D
// state, until somebody answers. Until this daemon serves them, every operation
// is answered with ENOSYS, as dlm_controld does with enable_plock=0: a program
// that calls fcntl then gets an error and no hang. flock(2) is not concerned.

// Layout of struct dlm_plock_info (uapi/linux/dlm_plock.h), version 1.2.
const (
	plockLen    = 64
	plockMajor  = 0  // u32
	plockOp     = 12 // u8
	plockFlags  = 15 // u8
	plockResult = 24 // s32

	opCancel  = 4
	flagClose = 1
)

// PlockRefusal is the answer to an operation when POSIX locks are not served;
// false if the kernel wants none. A CANCEL is told that nothing waits any more:
// its lock was refused already.
func PlockRefusal(op []byte) ([]byte, bool) {
	if len(op) != plockLen || binary.NativeEndian.Uint32(op[plockMajor:]) != 1 || op[plockFlags]&flagClose != 0 {
		return nil, false
	}
	errno := syscall.ENOSYS
	if op[plockOp] == opCancel {
		errno = syscall.ENOENT
	}
	reply := append([]byte(nil), op...)
	binary.NativeEndian.PutUint32(reply[plockResult:], uint32(-int32(errno)))
	return reply, true
}

// servePlocks answers in the order of reading: the kernel matches operations
// that do not wait by their order in the lockspace.
func (d *Driver) servePlocks() {
	d.mu.Lock()
	dev := d.plock
	d.mu.Unlock()
	buf := make([]byte, plockLen)
	for dev != nil {
		n, err := dev.Read(buf)
		switch {
		case errors.Is(err, os.ErrClosed), errors.Is(err, io.EOF), d.ctx.Err() != nil:
			return
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			if !d.sleep(pause(len(pollAfter))) {
				return
			}
			continue
		case err != nil:
			d.o.Log.Error("POSIX locks are not answered any more", slog.Any("err", err))
			return
		}
		if reply, ok := PlockRefusal(buf[:n]); ok {
			if _, err := dev.Write(reply); err != nil {
				d.o.Log.Warn("POSIX lock answer", slog.Any("err", err))
			}
		}
	}
}
