package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// cycle locks a new file of a directory of its own after the other, and tells the
// host of each when it has the lock. A new file is a new number of an inode, and so
// its locks are not among those that the node holds or has cached: each of them
// has to come from the lock manager, which grants none while it recovers.
func cycle(args []string) error {
	fs := flag.NewFlagSet("cycle", flag.ContinueOnError)
	id := fs.Int("id", 0, "number of this program, in what it tells")
	rate := fs.Float64("rate", 0, "locks a second, 0: as fast as it goes")
	count := fs.Int("count", 0, "stop after so many, 0: never")
	addr := fs.String("notify", defaultNotify, "collector")
	pos, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	n, err := newNotifier(*addr)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(pos[0], 0o755); err != nil {
		return err
	}
	return paced(*rate, *count, func(seq int) error {
		if err := lockNew(filepath.Join(pos[0], fmt.Sprint(seq))); err != nil {
			n.tell(event{Event: "locked-error", File: pos[0], ID: *id, Seq: seq, Error: err.Error()})
			return err
		}
		n.tell(event{Event: "locked", File: pos[0], ID: *id, Seq: seq})
		return nil
	})
}

// lockNew takes and gives back an exclusive flock on a file that must not be there yet.
func lockNew(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	err = retry(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) })
	return errors.Join(err, f.Close())
}

// kernelLog gives one message to each read, and waits for the next.
const kernelLog = "/dev/kmsg"

// kmsg tells the host each line that the kernel says from now on and that has one
// of the words in it.
func kmsg(args []string) error {
	fs := flag.NewFlagSet("kmsg", flag.ContinueOnError)
	addr := fs.String("notify", defaultNotify, "collector")
	fs.SetOutput(io.Discard)
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() == 0 {
		return errors.New("no word to look for (see the package's documentation)")
	}
	n, err := newNotifier(*addr)
	if err != nil {
		return err
	}
	fd, err := unix.Open(kernelLog, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", kernelLog, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Seek(fd, 0, io.SeekEnd); err != nil {
		return fmt.Errorf("%s: %w", kernelLog, err)
	}
	n.tell(event{Event: "kmsg-ready"})
	return follow(func(b []byte) (int, error) { return unix.Read(fd, b) }, fs.Args(), func(line string) {
		n.tell(event{Event: "kernel", Text: line})
	})
}

// follow passes on the messages that have one of the words, until reading fails.
func follow(read func([]byte) (int, error), words []string, tell func(string)) error {
	buf := make([]byte, 16<<10) // a message has 8 KiB at most
	for {
		n, err := read(buf)
		switch {
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR): // messages were overwritten, or nothing happened
			continue
		case err != nil:
			return err
		case n == 0:
			return io.EOF
		}
		line := message(string(buf[:n]))
		for _, w := range words {
			if strings.Contains(line, w) {
				tell(line)
				break
			}
		}
	}
}

// message is the text of a record: what stands between the first semicolon and the
// end of the line (Documentation/ABI/testing/dev-kmsg).
func message(record string) string {
	_, text, _ := strings.Cut(record, ";")
	text, _, _ = strings.Cut(text, "\n")
	return text
}
