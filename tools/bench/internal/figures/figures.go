// Package figures is what all benchmarks say in the same way: which machine it
// was, medians, and the file with everything in it.
package figures

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// errLoad is text that is not the kernel's.
var errLoad = errors.New("unreadable")

// Machine is where it was measured.
type Machine struct {
	Kernel    string  `json:"kernel"`
	CPUs      int     `json:"cpus"`
	StateFS   string  `json:"state_fs"` // type of the file system with the measured programs' files
	LoadStart float64 `json:"load_start"`
}

// This describes the machine; state is a folder on the file system in question.
func This(state string) Machine {
	m := Machine{CPUs: runtime.NumCPU(), StateFS: "unknown"}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var fs unix.Statfs_t
	if unix.Statfs(state, &fs) == nil {
		m.StateFS = fsName(int64(fs.Type))
	}
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.LoadStart, _ = parseLoad(data) // 0 when it does not parse
	}
	return m
}

// fsName is the type of the file systems that such a folder is likely on.
func fsName(magic int64) string {
	names := map[int64]string{unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay"}
	if n, ok := names[magic]; ok {
		return n
	}
	return fmt.Sprintf("%#x", magic)
}

// parseLoad returns the load of the last minute.
func parseLoad(data []byte) (float64, error) {
	f := strings.Fields(string(data))
	if len(f) < 3 {
		return 0, fmt.Errorf("%w: load %q", errLoad, data)
	}
	return strconv.ParseFloat(f[0], 64)
}

// Round leaves one digit after the point.
func Round(v float64) float64 { return math.Round(v*10) / 10 }

// Median is the middle one, or the mean of the middle two; 0 of none.
func Median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// Save writes a value as JSON, and makes the folder.
func Save(file string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}
