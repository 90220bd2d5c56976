package dlm

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// getMeminfo is getsockopt(SO_MEMINFO), which package unix has no form for.
func getMeminfo(fd int, info *[memVars]uint32) error {
	size := uint32(unsafe.Sizeof(*info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, soMeminfo,
		uintptr(unsafe.Pointer(info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
