package raft

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

const homeName = "home"

// home says where a log was made. It is kept in a file that describes itself:
// the file's own inode and birth time, which no copy has.
type home struct {
	FS    string `json:"fs,omitempty"` // "uuid:…" or "fsid:…" of the file system; empty: it has none
	Inode uint64 `json:"inode"`
	Birth int64  `json:"birth_ns,omitempty"` // 0: the file system does not keep it
}

// same says whether two homes are one place, as far as both can tell.
func (h home) same(o home) bool {
	if h.Inode != o.Inode || h.Birth != 0 && o.Birth != 0 && h.Birth != o.Birth {
		return false
	}
	sameKind := len(h.FS) >= 5 && len(o.FS) >= 5 && h.FS[:5] == o.FS[:5]
	return !sameKind || h.FS == o.FS
}

func parseHome(b []byte) (home, error) {
	var h home
	if err := json.Unmarshal(b, &h); err != nil || h.Inode == 0 {
		return home{}, fmt.Errorf("home: %w", ErrCorrupt)
	}
	return h, nil
}

// writeHome makes the home file, durable, under its name only when it is whole.
func writeHome(dir string) error {
	tmp := filepath.Join(dir, homeName+".new")
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return opError("create", tmp, err)
	}
	defer f.Close()
	h, err := findHome(f)
	if err != nil {
		return opError("statx", tmp, err)
	}
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(b, '\n')); err != nil {
		return opError("write", tmp, err)
	}
	if err := f.Sync(); err != nil {
		return opError("sync", tmp, err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, homeName)); err != nil {
		return opError("rename", tmp, err)
	}
	return syncDir(dir)
}

// checkHome compares where the log is with where it was made.
func checkHome(f *os.File) error {
	b := make([]byte, 4096)
	n, err := f.ReadAt(b, 0)
	if n == 0 && err != nil {
		return opError("read", f.Name(), ErrTruncated)
	}
	was, err := parseHome(b[:n])
	if err != nil {
		return opError("read", f.Name(), err)
	}
	is, err := findHome(f)
	if err != nil {
		return opError("statx", f.Name(), err)
	}
	if !was.same(is) {
		return opError("open", filepath.Dir(f.Name()), ErrMoved)
	}
	return nil
}

// findHome asks the kernel where an open file is.
func findHome(f *os.File) (home, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return home{}, err
	}
	h := home{Inode: st.Ino, FS: fileSystem(f)}
	if st.Mask&unix.STATX_BTIME != 0 {
		h.Birth = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return h, nil
}

// fsUUID is struct fsuuid2 of linux/fs.h, FS_IOC_GETFSUUID, since Linux 6.9.
type fsUUID struct {
	len  uint8
	uuid [16]byte
}

const fsIocGetFSUUID = 0x80111500

// fileSystem names the file system of a file so that the name outlives a reboot.
func fileSystem(f *os.File) string {
	var u fsUUID
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fsIocGetFSUUID, uintptr(unsafe.Pointer(&u)))
	if errno == 0 && u.len > 0 && int(u.len) <= len(u.uuid) {
		return "uuid:" + hex.EncodeToString(u.uuid[:u.len])
	}
	var st unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &st) != nil {
		return ""
	}
	switch st.Type { // these make f_fsid of their uuid; others of the device number, which may change
	case unix.EXT4_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
		return fmt.Sprintf("fsid:%08x%08x", uint32(st.Fsid.Val[0]), uint32(st.Fsid.Val[1]))
	}
	return ""
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return opError("open", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return opError("sync", dir, err)
	}
	return nil
}
