package dlm

import (
	"strings"

	"github.com/quorate/quorate/configfs"
)

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
