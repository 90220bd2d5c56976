package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/tools/lab/dlmdev"
)

// dlmCount adds one to a counter on a disk that others count up too, under a lock
// of the DLM, and tells the host each number that it has made. The number is also
// the value of the lock's resource, and the two must agree. It stops at the first
// error.
func dlmCount(args []string) error {
	fs := flag.NewFlagSet("count", flag.ContinueOnError)
	id := fs.Int("id", 0, "this program's number, told to the host")
	at := fs.Int64("at", countAt, "where the counter is, in bytes, a multiple of 4096")
	rate := fs.Float64("rate", 0, "a second, 0: as fast as it goes")
	count := fs.Int("count", 0, "stop after so many, 0: never")
	limit := fs.Duration("limit", 0, "for one lock, 0: as long as it takes")
	addr := fs.String("notify", defaultNotify, "collector")
	pos, err := parse(fs, args, 3)
	if err != nil {
		return err
	}
	n, err := newNotifier(*addr)
	if err != nil {
		return err
	}
	c, err := openCounter(pos[0], pos[1], pos[2], *at)
	if err != nil {
		return err
	}
	defer c.close()
	c.ls.Limit = *limit
	c.made = func(number int) { n.tell(event{Event: "counted", File: pos[1], ID: *id, Seq: number}) }
	return paced(*rate, *count, func(int) error {
		if err := c.step(); err != nil {
			n.tell(event{Event: "count-error", File: pos[1], ID: *id, Error: err.Error()})
			return err
		}
		return nil
	})
}

// countAt is in the first 64 KiB of a disk, which GFS2 leaves alone.
const countAt = 4096

// counter is an open counter.
type counter struct {
	ls       *dlmdev.Lockspace
	resource string
	disk     *os.File
	at       int64
	block    []byte // aligned for O_DIRECT
	made     func(number int)
}

const blockLen = 4096

func openCounter(lockspace, resource, disk string, at int64) (*counter, error) {
	ls, err := dlmdev.Open(lockspace)
	if err != nil {
		return nil, err
	}
	block, err := unix.Mmap(-1, 0, blockLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, errors.Join(err, ls.Close())
	}
	c := &counter{ls: ls, resource: resource, at: at, block: block}
	if c.disk, err = os.OpenFile(disk, os.O_RDWR|unix.O_DIRECT|unix.O_DSYNC, 0); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *counter) close() error {
	err := errors.Join(c.ls.Close(), unix.Munmap(c.block))
	if c.disk != nil {
		err = errors.Join(err, c.disk.Close())
	}
	return err
}

// step adds one. When it returns the lock is free again.
func (c *counter) step() error {
	k, err := c.ls.Lock(c.resource, dlmdev.EX, 0)
	if err != nil {
		return err
	}
	if _, err := c.disk.ReadAt(c.block, c.at); err != nil {
		return err
	}
	number, err := readCount(c.block)
	if err != nil {
		return err
	}
	if v := valueText(k.Value); v != "" && !k.ValueLost && v != fmt.Sprint(number) {
		return fmt.Errorf("the disk says %d, the value of %s %s", number, c.resource, v)
	}
	number++
	writeCount(c.block, number)
	if _, err := c.disk.WriteAt(c.block, c.at); err != nil {
		return err
	}
	setValue(k, fmt.Sprint(number))
	c.made(number)
	return k.Unlock()
}

const countWord = "counter %d\n"

// readCount reads a counter's block; one of zeros is 0.
func readCount(b []byte) (n int, err error) {
	text := strings.TrimRight(string(b), "\x00")
	if text == "" {
		return 0, nil
	}
	if _, err := fmt.Sscanf(text, countWord, &n); err != nil || text != fmt.Sprintf(countWord, n) {
		return 0, fmt.Errorf("no counter: %.40q", text)
	}
	return n, nil
}

func writeCount(b []byte, n int) {
	clear(b)
	copy(b, fmt.Sprintf(countWord, n))
}
