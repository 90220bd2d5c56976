package liveness

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is below which everything is pinned, a folder for each cluster.
const Root = "/sys/fs/bpf/quorate"

// layout is the meaning of the maps. A daemon that has another one than what is pinned
// makes new maps, and the program of the old ones answers until they are filled.
const layout = 4

// pins are the files of one cluster:
//
//	maps-4/NAME   the maps of layout 4
//	native-3      the attachment to the driver of interface 3
//	generic-4     that to the stack, for interface 4
type pins struct{ dir string }

// pinsOf: a bpf file system takes no dots in names. It is one for all network namespaces,
// each of which may have a node: those of another one than the first have its number.
func pinsOf(root, cluster string) pins {
	p := pinsIn(root, cluster)
	if n := netns(); n > 1 {
		p.dir += fmt.Sprintf("@%d", n)
	}
	return p
}

// netns is the number of this thread's network namespace, which no other one of this boot
// ever has. That of the first is 1; 0: not known.
func netns() uint64 {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer func() { _ = unix.Close(fd) }()
	n, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return n
}

func pinsIn(root, cluster string) pins {
	var b strings.Builder
	for _, c := range []byte(cluster) {
		if strings.IndexByte("./%@", c) >= 0 {
			b.WriteString("%" + hex.EncodeToString([]byte{c}))
		} else {
			b.WriteByte(c)
		}
	}
	return pins{filepath.Join(root, b.String())}
}

func (p pins) maps() string { return filepath.Join(p.dir, fmt.Sprintf("maps-%d", layout)) }

func (p pins) link(m Mode, index int) string {
	return filepath.Join(p.dir, fmt.Sprintf("%s-%d", m, index))
}

// parseLink is the reverse of link, of a file's name.
func parseLink(name string) (m Mode, index int, ok bool) {
	mode, n, found := strings.Cut(name, "-")
	index, err := strconv.Atoi(n)
	m = Mode(mode)
	return m, index, found && err == nil && index > 0 && (m == Native || m == Generic)
}

// oldMaps are folders of maps of other layouts.
func (p pins) oldMaps() (out []string, err error) {
	entries, err := os.ReadDir(p.dir)
	for _, e := range entries {
		if at := filepath.Join(p.dir, e.Name()); strings.HasPrefix(e.Name(), "maps-") && at != p.maps() {
			out = append(out, at)
		}
	}
	return out, err
}

// make makes the folders, and mounts the file system where nobody has.
func (p pins) make() error {
	if err := mountBPF(p.dir); err != nil {
		return err
	}
	return os.MkdirAll(p.maps(), 0o700)
}

// ErrNoPins says that there is no place for what has to outlive the daemon.
var ErrNoPins = errors.New("no bpf file system: mount -t bpf bpf /sys/fs/bpf")

const bpfMount = "/sys/fs/bpf"

func mountBPF(dir string) error {
	at := dir
	for {
		if _, err := os.Stat(at); err == nil || at == filepath.Dir(at) {
			break
		}
		at = filepath.Dir(at)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if at != bpfMount {
		return fmt.Errorf("%s: %w", at, ErrNoPins)
	}
	if err := unix.Mount("bpf", bpfMount, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700"); err != nil {
		return fmt.Errorf("%s: %w (%w)", bpfMount, ErrNoPins, err)
	}
	return nil
}

// removeAll removes pins and folders; what is attached by a pin alone goes with it.
func removeAll(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Remove(path)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
