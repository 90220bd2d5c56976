package raft

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sys/unix"
)

// small mounts a file system of its own for a test; without the right to, the test is skipped.
func small(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A file system that fills up takes nothing from the present segment and the spare.
func TestStoreFullDiskDoesNotBlockAFailover(t *testing.T) {
	dir := small(t, "4m")
	s, _ := open(t, filepath.Join(dir, "raft"))
	if err := s.awaitSpare(); err != nil {
		t.Fatal(err)
	}
	fill(t, dir)
	saved := 0
	var err error
	for i := uint64(1); i < 64 && err == nil; i++ {
		if err = s.Save(&Record{Entries: []*pb.Entry{entry(i, 1, strings.Repeat("f", 100<<10))}}); err == nil {
			saved++
		}
	}
	if saved < 18 {
		t.Fatalf("%d records of 100 KiB on a full disk, want two segments full: %v", saved, err)
	}
	if !errors.Is(err, ErrNoSpace) {
		t.Fatalf("then: %v, want %v", err, ErrNoSpace)
	}
	s.Close()
	if err := os.Remove(filepath.Join(dir, "fill")); err != nil {
		t.Fatal(err)
	}
	if _, r := open(t, filepath.Join(dir, "raft")); len(r.Entries) != saved {
		t.Fatalf("%d entries of %d", len(r.Entries), saved)
	}
}

func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for b := make([]byte, 4096); err == nil; {
		_, err = f.Write(b)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

func TestStoreReadOnlyDisk(t *testing.T) {
	dir := small(t, "4m")
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skip(err)
	}
	if _, _, err := Open(filepath.Join(dir, "raft")); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("open: %v, want %v", err, ErrReadOnly)
	}
}
