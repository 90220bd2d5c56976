package lab

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// removeTree removes a folder of the cache and what is in it. A build that was killed may
// have left the host's own /proc and /dev mounted in there, whose files are not the
// folder's: nothing is removed before they are detached.
func removeTree(dir string) error {
	if err := detach(dir, unix.Unmount); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// detach takes away all that is mounted at dir and beneath it. It may be called twice.
func detach(dir string, unmount func(path string, flags int) error) error {
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	dir = filepath.Join(parent, filepath.Base(dir))
	var failed error
	for last := -1; ; {
		mounted, err := mountsAt(dir)
		if err != nil || len(mounted) == 0 {
			return err
		}
		if last >= 0 && len(mounted) >= last {
			return fmt.Errorf("%s is mounted in %s, which was to be removed with everything in it; run \"umount %s\": %w",
				mounted[0], dir, mounted[0], failed)
		}
		last = len(mounted)
		failed = detachSeen(slices.Compact(mounted), unmount)
	}
}

// detachSeen detaches what is uppermost at each of the paths. What lies below it cannot be
// named until then, nor can paths of that.
func detachSeen(paths []string, unmount func(path string, flags int) error) (failed error) {
	seen := slices.DeleteFunc(slices.Clone(paths), func(p string) bool {
		// Or what is bound here is unmounted at its own place as well.
		err := unix.Mount("", p, "", unix.MS_PRIVATE, "")
		if err != nil {
			failed = errors.Join(failed, &os.PathError{Op: "make private", Path: p, Err: err})
		}
		return err != nil
	})
	for _, p := range seen {
		if err := unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			failed = errors.Join(failed, &os.PathError{Op: "unmount", Path: p, Err: err})
		}
	}
	return failed
}

func mountsAt(dir string) ([]string, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return mountsBeneath(string(info), dir), nil
}

// mountsBeneath are dir and the paths beneath it where something is mounted, the deepest
// first, given /proc/self/mountinfo: field 5 of it, with white space in octal
// (Documentation/filesystems/proc.rst, 3.5).
func mountsBeneath(mountinfo, dir string) (paths []string) {
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		p := unescape(f[4])
		if p == dir || strings.HasPrefix(p, dir+"/") {
			paths = append(paths, p)
		}
	}
	slices.SortFunc(paths, func(a, b string) int {
		return cmp.Or(strings.Count(b, "/")-strings.Count(a, "/"), strings.Compare(a, b))
	})
	return paths
}

// unescape is what a path of mountinfo stands for.
func unescape(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 || len(s) < i+4 {
			return b.String() + s
		}
		n, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
		if err != nil {
			return b.String() + s
		}
		b.WriteString(s[:i])
		b.WriteByte(byte(n))
		s = s[i+4:]
	}
}
