package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

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
	c, err := openCounter(pos[0], pos[1], pos[2], *at, *limit)
	if err != nil {
		return err
	}
	defer c.close()
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
	ls    *dlmdev.Lockspace
	lock  *dlmdev.Lock // NL between the steps, so that the value lives on
	disk  *os.File
	at    int64
	block []byte // aligned for O_DIRECT
	made  func(number int)
}

const blockLen = 4096

func openCounter(lockspace, resource, disk string, at int64, limit time.Duration) (c *counter, err error) {
	c = &counter{at: at}
	if c.ls, err = dlmdev.Open(lockspace); err != nil {
		return nil, err
	}
	c.ls.Limit = limit
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if c.lock, err = c.ls.Lock(resource, dlmdev.NL, 0); err != nil {
		return nil, err
	}
	c.block, err = unix.Mmap(-1, 0, blockLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	c.disk, err = os.OpenFile(disk, os.O_RDWR|unix.O_DIRECT|unix.O_DSYNC, 0)
	return c, err
}

func (c *counter) close() error {
	err := c.ls.Close()
	if c.block != nil {
		err = errors.Join(err, unix.Munmap(c.block))
	}
	if c.disk != nil {
		err = errors.Join(err, c.disk.Close())
	}
	return err
}

// step adds one. When it returns the lock excludes nobody any more.
func (c *counter) step() error {
	if err := c.lock.Convert(dlmdev.EX, 0); err != nil {
		return err
	}
	if _, err := c.disk.ReadAt(c.block, c.at); err != nil {
		return err
	}
	number, err := readCount(c.block)
	if err != nil {
		return err
	}
	if v := valueText(c.lock.Value); v != "" && !c.lock.ValueLost && v != fmt.Sprint(number) {
		return fmt.Errorf("the disk says %d, the value of %s %s", number, c.lock.Resource, v)
	}
	number++
	writeCount(c.block, number)
	if _, err := c.disk.WriteAt(c.block, c.at); err != nil {
		return err
	}
	setValue(c.lock, fmt.Sprint(number))
	c.made(number)
	return c.lock.Convert(dlmdev.NL, 0)
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
