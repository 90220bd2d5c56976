package raft

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	segmentSize   = 1 << 20 // bytes; larger only for a record that does not fit
	segmentPrefix = "log-"
	spareName     = "spare"
)

// Store is the durable log of one node: the edge that executes GroupPersist.
//
// Each Save is one write and one fdatasync into a segment that was zeroed
// beforehand; one more such segment is always kept ready, so that a file system
// that filled up cannot block the writes of a failover. A checkpoint begins a
// new segment, and drops all older ones when it is durable. Save and Close
// are for one goroutine; the counters are for any.
type Store struct {
	dir  string
	lock *os.File // the home file

	file   *os.File
	seg    segment
	off    int64
	record uint64   // number of the next record
	old    []uint64 // older segments, ascending
	buf    []byte
	failed error

	spare  chan error // the result of the spare that is being made; nil: none is
	syncs  atomic.Uint64
	writes atomic.Uint64
}

// Open opens or makes the store in a directory, and returns what it holds. The
// errors to tell apart are ErrCorrupt, ErrTruncated, ErrMoved (put it aside and join
// anew), ErrBusy, ErrNoSpace and ErrReadOnly.
func Open(dir string) (*Store, Restored, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, Restored{}, opError("mkdir", dir, err)
	}
	s := &Store{dir: dir}
	r, err := s.open()
	if err != nil {
		s.release()
		return nil, Restored{}, err
	}
	return s, r, nil
}

func (s *Store) open() (Restored, error) {
	seqs, err := s.segments()
	if err != nil {
		return Restored{}, err
	}
	path := filepath.Join(s.dir, homeName)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := s.create(seqs); err != nil {
			return Restored{}, err
		}
		seqs = []uint64{1}
	}
	if s.lock, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return Restored{}, opError("open", path, err)
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return Restored{}, opError("lock", path, err)
	}
	if err := checkHome(s.lock); err != nil {
		return Restored{}, err
	}
	if len(seqs) == 0 {
		return Restored{}, opError("open", s.path(1), ErrTruncated)
	}
	var r Restored
	if err := s.load(seqs, &r); err != nil {
		return Restored{}, err
	}
	s.refill()
	return r, nil
}

// create makes a store: the first segment, and then the home, so that a home
// without a segment is a log that was lost. A first segment without a record
// and without a home is what a crash in here leaves.
func (s *Store) create(seqs []uint64) error {
	if len(seqs) > 0 {
		b, err := readSegment(s.path(seqs[0]))
		if err != nil {
			return err
		}
		if len(seqs) > 1 || seqs[0] != 1 || len(b) < segmentHeader || !isZero(b[segmentHeader:]) {
			return opError("open", filepath.Join(s.dir, homeName), ErrTruncated)
		}
	}
	if err := s.rotate(segmentSize); err != nil {
		return err
	}
	err := s.file.Close()
	s.file, s.seg = nil, segment{}
	if err != nil {
		return opError("close", s.path(1), err)
	}
	return writeHome(s.dir)
}

// segments lists the numbers of the segments, ascending and without gaps.
func (s *Store) segments() ([]uint64, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, opError("read", s.dir, err)
	}
	var seqs []uint64
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), segmentPrefix)
		if !ok {
			continue
		}
		var seq uint64
		if _, err := fmt.Sscanf(name, "%016x", &seq); err != nil || len(name) != 16 || !e.Type().IsRegular() {
			return nil, opError("read", filepath.Join(s.dir, e.Name()), ErrCorrupt)
		}
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	for i := range seqs {
		if seqs[i] != seqs[0]+uint64(i) {
			return nil, opError("read", s.path(seqs[0]+uint64(i)), ErrTruncated)
		}
	}
	return seqs, nil
}

func (s *Store) path(seq uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%s%016x", segmentPrefix, seq))
}

// load replays the segments and opens the last one for writing.
func (s *Store) load(seqs []uint64, r *Restored) error {
	for i, seq := range seqs {
		b, err := readSegment(s.path(seq))
		if err != nil {
			return err
		}
		last := i == len(seqs)-1
		if err := s.replay(b, seq, i == 0, last, r); err != nil {
			return opError("read", s.path(seq), err)
		}
		if !last {
			s.old = append(s.old, seq)
		}
	}
	return nil
}

// maxSegment is more than any segment is: one that holds the largest record.
const maxSegment = maxRecord + 4*segmentSize

// readSegment reads a whole segment. A file that cannot be one is not read: it may
// be larger than memory.
func readSegment(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err == nil && fi.Size() > maxSegment {
		err = fmt.Errorf("%d bytes: %w", fi.Size(), ErrCorrupt)
	}
	if err != nil {
		return nil, opError("read", path, err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, opError("read", path, err)
	}
	return b, nil
}

// replay reads one segment; in the last one a torn write is wiped.
func (s *Store) replay(b []byte, seq uint64, first, last bool, r *Restored) error {
	seg, err := parseSegmentHeader(b)
	if err != nil {
		return err
	}
	if seg.seq != seq || !first && seg.first != s.record {
		return fmt.Errorf("segment %d begins with record %d, %d is next: %w", seg.seq, seg.first, s.record, ErrCorrupt)
	}
	begun := !first
	end, next, torn, err := scan(b, seg, func(p []byte) error {
		rec, err := parseRecord(p)
		if err != nil {
			return err
		}
		if !begun && !rec.Checkpoint && seg.seq != 1 {
			return fmt.Errorf("the oldest segment does not begin with a checkpoint: %w", ErrTruncated)
		}
		begun = true
		return r.Replay(rec)
	})
	switch {
	case err != nil:
		return err
	case torn && !last:
		return fmt.Errorf("torn record before the last segment: %w", ErrCorrupt)
	case !begun && seg.seq != 1:
		return fmt.Errorf("the oldest segment is empty: %w", ErrTruncated)
	}
	s.record = next
	if last {
		return s.resume(b, seg, end, torn)
	}
	return nil
}

// resume opens the last segment at its end.
func (s *Store) resume(b []byte, seg segment, end int, torn bool) error {
	f, err := os.OpenFile(s.path(seg.seq), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	s.file, s.seg, s.off = f, seg, int64(end)
	if !torn {
		return nil
	}
	rest := b[end:]
	clear(rest)
	if _, err := f.WriteAt(rest, int64(end)); err != nil {
		return err
	}
	return s.sync()
}

// Save makes a record of this provider durable. After an error the store takes
// no more: what the disk holds is unknown.
func (s *Store) Save(record any) error {
	rec, ok := record.(*Record)
	if !ok {
		return fmt.Errorf("raft store: a record of type %T", record)
	}
	if s.failed != nil {
		return s.failed
	}
	if err := s.save(rec); err != nil {
		s.failed = fmt.Errorf("%w: %w", ErrFailed, err)
		return err
	}
	return nil
}

func (s *Store) save(rec *Record) error {
	if s.buf = s.buf[:0]; cap(s.buf) > 4*segmentSize {
		s.buf = nil // after a large checkpoint
	}
	b, err := appendRecord(append(s.buf, zeros[:frameHeader]...), rec)
	if err != nil {
		return fmt.Errorf("raft store: encode: %w", err)
	}
	payload := len(b) - frameHeader
	if payload > maxRecord {
		return opError("write", s.file.Name(), fmt.Errorf("record of %d bytes, at most %d", payload, maxRecord))
	}
	size := frameSize(payload)
	b = append(b, zeros[:size-len(b)]...)
	s.buf = b
	fresh := rec.Checkpoint && s.off > segmentHeader
	if fresh || s.off+int64(size) > int64(s.seg.size) {
		if err := s.rotate(size + segmentHeader); err != nil {
			return err
		}
	}
	putFrame(b, payload, s.seg.seq, s.record)
	if _, err := s.file.WriteAt(b, s.off); err != nil {
		return opError("write", s.file.Name(), err)
	}
	if err := s.sync(); err != nil {
		return err
	}
	s.writes.Add(1)
	s.off += int64(size)
	s.record++
	if rec.Checkpoint {
		return s.drop()
	}
	return nil
}

// sync counts and checks: after a failed one the page cache tells lies.
func (s *Store) sync() error {
	s.syncs.Add(1)
	if err := unix.Fdatasync(int(s.file.Fd())); err != nil {
		return opError("sync", s.file.Name(), err)
	}
	return nil
}

// rotate begins the next segment: the spare, or a larger one for a large record.
func (s *Store) rotate(need int) error {
	spare := filepath.Join(s.dir, spareName)
	size := segmentSize
	if need > size {
		size = (need + 2*segmentSize - 1) &^ (segmentSize - 1)
		spare += "-large"
		if err := makeSpare(spare, size); err != nil {
			return err
		}
	} else if err := s.awaitSpare(); err != nil {
		return err
	}
	f, err := os.OpenFile(spare, os.O_RDWR, 0)
	if err != nil {
		return opError("open", spare, err)
	}
	seg := segment{seq: s.seg.seq + 1, size: uint64(size), first: s.record}
	if err := s.claim(f, spare, seg); err != nil {
		f.Close()
		return err
	}
	if s.file != nil {
		s.old = append(s.old, s.seg.seq)
		s.file.Close()
	}
	s.file, s.seg, s.off = f, seg, segmentHeader
	s.refill()
	return nil
}

// claim writes the header of a spare and gives it its name, durably.
func (s *Store) claim(f *os.File, spare string, seg segment) error {
	var h [segmentHeader]byte
	putSegmentHeader(h[:], seg.seq, seg.size, seg.first)
	if _, err := f.WriteAt(h[:], 0); err != nil {
		return opError("write", spare, err)
	}
	s.syncs.Add(2)
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return opError("sync", spare, err)
	}
	if err := os.Rename(spare, s.path(seg.seq)); err != nil {
		return opError("rename", spare, err)
	}
	return syncDir(s.dir)
}

// refill makes the next spare in the background.
func (s *Store) refill() {
	if s.spare != nil {
		return
	}
	done := make(chan error, 1)
	s.spare = done
	go func() { done <- makeSpare(filepath.Join(s.dir, spareName), segmentSize) }()
}

// awaitSpare joins the making of the spare; one that failed is tried once more.
func (s *Store) awaitSpare() error {
	s.refill()
	err := <-s.spare
	s.spare = nil
	if err != nil {
		err = makeSpare(filepath.Join(s.dir, spareName), segmentSize)
	}
	return err
}

// makeSpare writes a file of zeros, durable, so that later writes into it need
// no space and no change of metadata.
func makeSpare(path string, size int) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return opError("create", path, err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, zeroReader{}, int64(size)); err != nil {
		return opError("write", path, err)
	}
	if err := f.Sync(); err != nil {
		return opError("sync", path, err)
	}
	return nil
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// drop removes the segments before a durable checkpoint, the oldest first.
func (s *Store) drop() error {
	for _, seq := range s.old {
		if err := os.Remove(s.path(seq)); err != nil {
			return opError("remove", s.path(seq), err)
		}
	}
	s.old = s.old[:0]
	return nil
}

// Spare says whether a segment is ready for when the present one is full: nil,
// or why not. It is for status: a node without one is degraded.
func (s *Store) Spare() error {
	if s.spare == nil {
		return nil
	}
	select {
	case err := <-s.spare:
		s.spare <- err
		return err
	default:
		return nil
	}
}

// Syncs is how many times the store waited for the disk to be durable, spares apart.
func (s *Store) Syncs() uint64 { return s.syncs.Load() }

// Writes is how many records were saved since Open.
func (s *Store) Writes() uint64 { return s.writes.Load() }

// Close waits for the spare and closes the files.
func (s *Store) Close() error {
	s.failed = fmt.Errorf("closed: %w", ErrFailed)
	return s.release()
}

func (s *Store) release() error {
	if s.spare != nil {
		<-s.spare
		s.spare = nil
	}
	var err error
	if s.file != nil {
		err = s.file.Close()
		s.file = nil
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
		s.lock = nil
	}
	return err
}
