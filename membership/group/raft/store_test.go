package raft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// open opens a store and closes it with the test.
func open(t *testing.T, dir string) (*Store, Restored) {
	t.Helper()
	s, r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, r
}

func entry(index, term uint64, data string) *pb.Entry {
	return &pb.Entry{Index: new(index), Term: new(term), Data: []byte(data)}
}

func snapshot(index, term uint64, state string) *pb.Snapshot {
	m := members{list: []member{{7, 1}, {8, 2}}}
	return &pb.Snapshot{
		Data:     append(appendMembers(nil, m), state...),
		Metadata: &pb.SnapshotMetadata{Index: new(index), Term: new(term), ConfState: &pb.ConfState{Voters: []uint64{7, 8}}},
	}
}

// history is a life of a store: identity, formation, entries, an overwritten
// tail, a compaction, more entries.
func history() []*Record {
	recs := []*Record{
		{Identity: &Identity{RaftID: 7}},
		{Checkpoint: true, Identity: &Identity{RaftID: 7, ClusterID: "c"}, Snapshot: snapshot(1, 1, ""), HardState: hardState(1, 0, 1)},
		{HardState: hardState(2, 7, 1)},
		{HardState: hardState(2, 7, 1), Entries: []*pb.Entry{entry(2, 2, "two"), entry(3, 2, "three")}},
		{HardState: hardState(3, 8, 2), Entries: []*pb.Entry{entry(3, 3, "another three")}},
		{Checkpoint: true, Identity: &Identity{RaftID: 7, ClusterID: "c"}, Snapshot: snapshot(3, 3, "state"), HardState: hardState(3, 8, 3)},
	}
	for i := uint64(4); i < 12; i++ {
		recs = append(recs, &Record{HardState: hardState(3, 8, i-1), Entries: []*pb.Entry{entry(i, 3, strings.Repeat("x", int(i)*90))}})
	}
	return recs
}

func equal(a, b Restored) bool {
	if a.Identity != b.Identity || len(a.Entries) != len(b.Entries) ||
		!proto.Equal(a.HardState, b.HardState) || !proto.Equal(a.Snapshot, b.Snapshot) {
		return false
	}
	for i := range a.Entries {
		if !proto.Equal(a.Entries[i], b.Entries[i]) {
			return false
		}
	}
	return true
}

func replayed(t *testing.T, recs []*Record) Restored {
	t.Helper()
	var r Restored
	for _, rec := range recs {
		if err := r.Replay(rec); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func TestStoreGivesBackWhatWasSaved(t *testing.T) {
	dir := t.TempDir()
	recs := history()
	for k := range recs {
		s, r := open(t, dir)
		if want := replayed(t, recs[:k]); !equal(r, want) {
			t.Fatalf("after %d records: got %+v, want %+v", k, r, want)
		}
		if err := s.Save(recs[k]); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStoreOneSyncPerSave(t *testing.T) {
	s, _ := open(t, t.TempDir())
	before := s.Syncs()
	const n = 200
	for i := range uint64(n) {
		if err := s.Save(&Record{Entries: []*pb.Entry{entry(i+1, 1, "0123456789")}}); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.Syncs() - before; got != n || s.Writes() != n {
		t.Fatalf("%d syncs for %d saves, want one each", got, s.Writes())
	}
}

func TestStoreRotatesAndDropsWhatACheckpointReplaces(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	big := strings.Repeat("y", 300<<10)
	for i := uint64(1); i <= 10; i++ {
		if err := s.Save(&Record{Entries: []*pb.Entry{entry(i, 1, big)}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(glob(t, dir, "log-*")); n < 3 {
		t.Fatalf("%d segments for 3 MiB, want several", n)
	}
	huge := snapshot(10, 1, strings.Repeat("z", 5<<20)) // larger than a segment
	if err := s.Save(&Record{Checkpoint: true, Identity: &Identity{RaftID: 7, ClusterID: "c"}, Snapshot: huge, HardState: hardState(1, 0, 10)}); err != nil {
		t.Fatal(err)
	}
	if n := len(glob(t, dir, "log-*")); n != 1 {
		t.Fatalf("%d segments after a checkpoint, want 1", n)
	}
	if err := s.Save(&Record{Entries: []*pb.Entry{entry(11, 1, "after")}}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	_, r := open(t, dir)
	if !proto.Equal(r.Snapshot, huge) || len(r.Entries) != 1 {
		t.Fatalf("restored snapshot at %d and %d entries", r.Snapshot.GetMetadata().GetIndex(), len(r.Entries))
	}
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// image is one small segment with records, and the offsets at which they end.
func image(t testing.TB, size int, recs []*Record) (b []byte, ends []int) {
	t.Helper()
	b = make([]byte, size)
	putSegmentHeader(b, 1, uint64(size), 0)
	off := segmentHeader
	ends = []int{off}
	for i, rec := range recs {
		p, err := appendRecord(nil, rec)
		if err != nil {
			t.Fatal(err)
		}
		f := b[off : off+frameSize(len(p))]
		copy(f[frameHeader:], p)
		putFrame(f, len(p), 1, uint64(i))
		off += len(f)
		ends = append(ends, off)
	}
	return b, ends
}

// read replays an image as a store does, as the last segment.
func read(b []byte) (payloads [][]byte, torn bool, err error) {
	seg, err := parseSegmentHeader(b)
	if err != nil {
		return nil, false, err
	}
	if seg.seq != 1 || seg.first != 0 {
		return nil, false, ErrCorrupt
	}
	_, _, torn, err = scan(b, seg, func(p []byte) error {
		payloads = append(payloads, bytes.Clone(p))
		_, err := parseRecord(p)
		return err
	})
	return payloads, torn, err
}

func TestSegmentTruncatedAtEveryOffset(t *testing.T) {
	b, _ := image(t, 16<<10, history())
	for n := range b {
		if _, _, err := read(b[:n]); !errors.Is(err, ErrTruncated) {
			t.Fatalf("cut to %d of %d bytes: %v, want %v", n, len(b), err, ErrTruncated)
		}
	}
	if _, _, err := read(append(bytes.Clone(b), 0)); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("longer than it was made: %v", err)
	}
}

// The home is not preallocated: it is whole, but for the line's end, or not taken for one.
func TestHomeTruncatedAtEveryOffset(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	if err := s.Save(history()[0]); err != nil {
		t.Fatal(err)
	}
	s.Close()
	name := filepath.Join(dir, homeName)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(b) - 1 {
		if err := os.WriteFile(name, b[:n], 0o600); err != nil { // the same inode
			t.Fatal(err)
		}
		if _, _, err := Open(dir); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTruncated) {
			t.Fatalf("home cut to %d of %d bytes %q: %v", n, len(b), b[:n], err)
		}
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

func TestSegmentEveryByteFlipped(t *testing.T) {
	b, ends := image(t, 16<<10, history())
	want, _, err := read(b)
	if err != nil || len(want) != len(history()) {
		t.Fatal(len(want), err)
	}
	used := ends[len(ends)-1]
	for i := range b {
		for _, bit := range []byte{0x01, 0x80, 0xff} {
			b[i] ^= bit
			got, torn, err := read(b)
			switch {
			case err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTruncated):
				t.Fatalf("byte %d: %v", i, err)
			case i < used && err == nil:
				t.Fatalf("byte %d of %d used was flipped and nobody noticed (torn %v)", i, used, torn)
			case err == nil && len(got) != len(want):
				t.Fatalf("byte %d after the end: %d records of %d", i, len(got), len(want))
			}
			for k := range got {
				if !bytes.Equal(got[k], want[k]) && err == nil {
					t.Fatalf("byte %d: record %d replayed wrongly", i, k)
				}
			}
			b[i] ^= bit
		}
	}
}

// A crash in the last write leaves any of its sectors unwritten: all records
// before it are there, and it alone may be gone.
func TestSegmentTornInEveryWay(t *testing.T) {
	recs := history()
	b, ends := image(t, 16<<10, recs)
	whole, _, _ := read(b)
	for k := range recs {
		before := bytes.Clone(b)
		clear(before[ends[k]:])
		after := bytes.Clone(b)
		clear(after[ends[k+1]:])
		first, last := ends[k]/sector, (ends[k+1]-1)/sector
		for mask := range 1 << (last - first + 1) {
			disk := bytes.Clone(before)
			for s := first; s <= last; s++ {
				if mask&(1<<(s-first)) != 0 {
					copy(disk[s*sector:(s+1)*sector], after[s*sector:])
				}
			}
			got, torn, err := read(disk)
			complete := mask == 1<<(last-first+1)-1
			switch {
			case err != nil:
				t.Fatalf("record %d, sectors %b: %v", k, mask, err)
			case complete && (len(got) != k+1 || torn):
				t.Fatalf("record %d is whole: %d records, torn %v", k, len(got), torn)
			case !complete && len(got) != k:
				t.Fatalf("record %d, sectors %b: %d records", k, mask, len(got))
			case !complete && mask != 0 && !torn:
				t.Fatalf("record %d, sectors %b: not seen to be torn", k, mask)
			}
			for i := range got {
				if !bytes.Equal(got[i], whole[i]) {
					t.Fatalf("record %d, sectors %b: record %d is wrong", k, mask, i)
				}
			}
		}
	}
}

func TestStoreWipesATornTailAndGoesOn(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	recs := history()[:5]
	for _, rec := range recs[:1] {
		if err := s.Save(rec); err != nil {
			t.Fatal(err)
		}
	}
	end := s.off
	big := &Record{Entries: []*pb.Entry{entry(1, 1, strings.Repeat("q", 3000))}}
	if err := s.Save(big); err != nil {
		t.Fatal(err)
	}
	name := s.path(s.seg.seq)
	s.Close()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[(end/sector+2)*sector : (end/sector+3)*sector]) // a sector in its middle
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, r := open(t, dir)
	if len(r.Entries) != 0 || r.Identity.RaftID != 7 {
		t.Fatalf("restored %+v", r)
	}
	if err := s.Save(&Record{Entries: []*pb.Entry{entry(1, 2, "new")}}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	_, r = open(t, dir)
	if len(r.Entries) != 1 || string(r.Entries[0].GetData()) != "new" {
		t.Fatalf("restored %v", r.Entries)
	}
}

// TestStoreDamage breaks the files of a store in ways that a machine or an operator can.
func TestStoreDamage(t *testing.T) {
	cases := []struct {
		name string
		do   func(t *testing.T, dir string)
		want error
	}{
		{"shorter", func(t *testing.T, dir string) { truncate(t, last(t, dir), segmentSize/2) }, ErrTruncated},
		{"empty", func(t *testing.T, dir string) { truncate(t, last(t, dir), 0) }, ErrTruncated},
		{"last segment gone", func(t *testing.T, dir string) {
			for _, n := range glob(t, dir, "log-*") {
				remove(t, n)
			}
		}, ErrTruncated},
		{"home gone", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, homeName)) }, ErrTruncated},
		{"bit in the middle", func(t *testing.T, dir string) { flip(t, last(t, dir), 200) }, ErrCorrupt},
		{"segment renamed", func(t *testing.T, dir string) {
			if err := os.Rename(last(t, dir), filepath.Join(dir, "log-00000000000000aa")); err != nil {
				t.Fatal(err)
			}
		}, ErrCorrupt},
		{"home unreadable", func(t *testing.T, dir string) { flip(t, filepath.Join(dir, homeName), 1) }, ErrCorrupt},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := open(t, dir)
			for _, rec := range history() {
				if err := s.Save(rec); err != nil {
					t.Fatal(err)
				}
			}
			s.Close()
			c.do(t, dir)
			_, _, err := Open(dir)
			var op *OpError
			if !errors.Is(err, c.want) || !errors.As(err, &op) {
				t.Fatalf("open: %v, want %v", err, c.want)
			}
		})
	}
}

func TestStoreNoticesACopy(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	s, _ := open(t, dir)
	if err := s.Save(history()[0]); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(copied); !errors.Is(err, ErrMoved) {
		t.Fatalf("open of a copy: %v, want %v", err, ErrMoved)
	}
	open(t, dir) // the original is still at home
}

func TestHomeSame(t *testing.T) {
	h := home{FS: "uuid:1", Inode: 5, Birth: 9}
	for _, c := range []struct {
		o    home
		want bool
	}{
		{h, true},
		{home{"uuid:2", 5, 9}, false},
		{home{"fsid:1", 5, 9}, true}, // another kernel names it in another way
		{home{"", 5, 9}, true},
		{home{"uuid:1", 6, 9}, false},
		{home{"uuid:1", 5, 8}, false},
		{home{"uuid:1", 5, 0}, true},
	} {
		if got := h.same(c.o); got != c.want {
			t.Errorf("%+v same as %+v: %v", h, c.o, got)
		}
	}
}

func TestStoreIsLocked(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if _, _, err := Open(dir); !errors.Is(err, ErrBusy) {
		t.Fatalf("second open: %v, want %v", err, ErrBusy)
	}
}

func TestStoreSurvivesACrashInCreation(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	s.Close()
	remove(t, filepath.Join(dir, homeName)) // the first segment was made, the home was not
	open(t, dir)
}

func TestStoreAfterAFailedWriteTakesNoMore(t *testing.T) {
	s, _ := open(t, t.TempDir())
	s.file.Close()
	if err := s.Save(history()[0]); err == nil {
		t.Fatal("a write into a closed file worked")
	}
	if err := s.Save(history()[0]); !errors.Is(err, ErrFailed) {
		t.Fatalf("after a failure: %v, want %v", err, ErrFailed)
	}
	if err := s.Save("text"); err == nil {
		t.Fatal("saved a record of another provider")
	}
}

// A checkpoint that is whole and old segments that were not dropped yet: the
// state is the same.
func TestStoreCrashBeforeDrop(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	recs := history()
	for _, rec := range recs[:5] {
		if err := s.Save(rec); err != nil {
			t.Fatal(err)
		}
	}
	old := last(t, dir)
	kept, err := os.ReadFile(old)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Save(recs[5]); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.WriteFile(old, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	s, r := open(t, dir)
	if want := replayed(t, recs[:6]); !equal(r, want) {
		t.Fatalf("got %+v, want %+v", r, want)
	}
	if err := s.Save(&Record{Checkpoint: true, Identity: &Identity{RaftID: 7, ClusterID: "c"}, Snapshot: snapshot(3, 3, "")}); err != nil {
		t.Fatal(err)
	}
	if n := len(glob(t, dir, "log-*")); n != 1 {
		t.Fatalf("%d segments", n)
	}
}

func last(t *testing.T, dir string) string {
	t.Helper()
	names := glob(t, dir, "log-*")
	return names[len(names)-1]
}

func truncate(t *testing.T, name string, n int64) {
	t.Helper()
	if err := os.Truncate(name, n); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, name string, off int) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[off] ^= 0x20
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
}

// TestSegmentIsNoFile: what stands in the place of a segment is damage, and opening
// it, as of a fifo, must not wait for anybody.
func TestSegmentIsNoFile(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"fifo":      func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"link":      func(p string) error { return os.Symlink("spare", p) },
	} {
		dir := t.TempDir()
		s, _ := open(t, dir)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		path := last(t, dir)
		if err := errors.Join(os.Remove(path), put(path)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Open(dir); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSegmentTooLarge: a sparse file of a terabyte is damage, and is not read.
func TestSegmentTooLarge(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(last(t, dir), 1<<40); err != nil {
		t.Skip(err)
	}
	for _, home := range []bool{true, false} { // found when opened, and when made anew
		if !home {
			if err := os.Remove(filepath.Join(dir, homeName)); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := Open(dir); !errors.Is(err, ErrCorrupt) {
			t.Errorf("with its home %v: %v", home, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	for _, rec := range history() {
		b, err := appendRecord(nil, rec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := parseRecord(b)
		if err != nil {
			return
		}
		again, err := appendRecord(nil, rec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseRecord(again); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzSegment(f *testing.F) {
	b, _ := image(f, 4<<10, history()[:4])
	f.Add(b, uint16(100), byte(1))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, x byte) {
		if int(at) < len(b) {
			b = bytes.Clone(b)
			b[at] ^= x
		}
		if len(b) >= segmentHeader { // let the contents be read
			putSegmentHeader(b, 1, uint64(len(b)), 0)
		}
		_, _, _ = read(b)
	})
}

func FuzzHome(f *testing.F) {
	f.Add([]byte(`{"inode":1}`))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = parseHome(b) })
}

func BenchmarkSave(b *testing.B) {
	s, _, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	data := binary.BigEndian.AppendUint64(make([]byte, 192), 1)
	b.ReportAllocs()
	for i := range b.N {
		if err := s.Save(&Record{HardState: hardState(1, 1, 1), Entries: []*pb.Entry{{Index: new(uint64(i + 1)), Term: new(uint64(1)), Data: data}}}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(s.Syncs())/float64(b.N), "syncs/save")
}
