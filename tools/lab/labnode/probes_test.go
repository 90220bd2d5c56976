package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCycleTakesNewLocks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	addr, next := host(t)
	if err := cycle([]string{dir, "--id", "2", "--count", "3", "--notify", addr}); err != nil {
		t.Fatal(err)
	}
	for want := 1; want <= 3; want++ {
		if e := next(); e.Seq != want || e.ID != 2 || e.File != dir || e.Event != "locked" {
			t.Errorf("%+v", e)
		}
	}
	if es, err := os.ReadDir(dir); err != nil || len(es) != 3 {
		t.Errorf("%v %v", es, err)
	}
	// A file that is there already is no new lock.
	if err := cycle([]string{dir, "--count", "1", "--notify", addr}); !errors.Is(err, os.ErrExist) {
		t.Error(err)
	}
	if e := next(); e.Event != "locked-error" || e.Error == "" {
		t.Errorf("%+v", e)
	}
}

func TestFollowKernelLog(t *testing.T) {
	records := []string{
		"6,1,100,-;dlm: a: recover 3\n SUBSYSTEM=x\n",
		"6,2,101,-;eth0: up\n",
		"4,3,102,-;gfs2: b; done\n",
	}
	errs := []error{nil, unix.EPIPE, nil, unix.EINTR, nil, unix.EIO}
	read := func(b []byte) (int, error) {
		err := errs[0]
		if errs = errs[1:]; err != nil {
			return 0, err
		}
		n := copy(b, records[0])
		records = records[1:]
		return n, nil
	}
	var got []string
	err := follow(read, []string{"dlm:", "gfs2:"}, func(s string) { got = append(got, s) })
	if want := []string{"dlm: a: recover 3", "gfs2: b; done"}; !slices.Equal(got, want) || !errors.Is(err, unix.EIO) {
		t.Errorf("%q %v", got, err)
	}
	if err := follow(func([]byte) (int, error) { return 0, nil }, nil, nil); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestKmsgNeedsWords(t *testing.T) {
	if err := kmsg(nil); err == nil {
		t.Error("it follows the log for nothing")
	}
}
