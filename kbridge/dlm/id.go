package dlm

import (
	"hash/crc32"
	"strings"

	"github.com/quorate/quorate/configfs"
)

// ID is the global id of a lockspace, the same at all nodes: CRC-32 (IEEE) over
// "dlm:ls:", the name and a NUL, as dlm_controld has it. The kernel routes
// messages and POSIX locks by it, so two lockspaces must not share one; 0 is
// reserved and becomes 1.
func ID(name string) uint32 {
	id := crc32.ChecksumIEEE([]byte("dlm:ls:" + name + "\x00"))
	if id == 0 {
		return 1
	}
	return id
}

// CheckName says whether the DLM can be driven for a lockspace of that name.
func CheckName(name string) error {
	if configfs.CheckName(name) != nil {
		return opError("lockspace", name, ErrName)
	}
	return nil
}

// sysfsName is the name of a lockspace's directory in sysfs, where the kernel
// shows a slash as an exclamation mark.
func sysfsName(ls string) string { return strings.ReplaceAll(ls, "/", "!") }
