package raft

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A segment is a file of a fixed size, zeros before it is used:
//
//	header   64 bytes: magic, sequence number of the segment, its size in
//	         bytes, number of its first record, checksum
//	frames   one a Save, 16-byte aligned: a header of 16 bytes (length, kind,
//	         record number, checksum), the payload, zeros, a trailer of 8
//	         bytes (magic, checksum of payload and header) that ends the frame
//	zeros
//
// Each frame was durable before the next was begun, so only the last one can be
// torn. A torn write leaves whole sectors of 512 bytes unwritten, and these are
// zeros; a frame whose sectors are all written and whose checksum is wrong was
// damaged. Only a payload that holds an all-zero sector of its own leaves a
// damaged last record to look torn; what peers saw (safety rule S2) covers it.
const (
	segmentMagic  = "quorlog1"
	segmentHeader = 64
	frameHeader   = 16
	frameTrailer  = 8
	frameAlign    = 16
	sector        = 512
	trailerMagic  = 0x71756f72
	frameKind     = 1
	maxRecord     = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameSize is the length of the frame that holds a payload.
func frameSize(payload int) int {
	n := frameHeader + payload + frameTrailer
	return (n + frameAlign - 1) &^ (frameAlign - 1)
}

func putSegmentHeader(b []byte, seq, size, first uint64) {
	copy(b, segmentMagic)
	binary.BigEndian.PutUint64(b[8:], seq)
	binary.BigEndian.PutUint64(b[16:], size)
	binary.BigEndian.PutUint64(b[24:], first)
	binary.BigEndian.PutUint32(b[segmentHeader-4:], crc32.Checksum(b[:segmentHeader-4], castagnoli))
}

// segment is one parsed segment.
type segment struct {
	seq   uint64
	size  uint64
	first uint64 // number of its first record
}

func parseSegmentHeader(b []byte) (segment, error) {
	if len(b) < segmentHeader {
		return segment{}, fmt.Errorf("segment of %d bytes: %w", len(b), ErrTruncated)
	}
	if string(b[:8]) != segmentMagic ||
		binary.BigEndian.Uint32(b[segmentHeader-4:]) != crc32.Checksum(b[:segmentHeader-4], castagnoli) {
		return segment{}, fmt.Errorf("segment header: %w", ErrCorrupt)
	}
	s := segment{binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint64(b[24:])}
	switch {
	case uint64(len(b)) < s.size:
		return s, fmt.Errorf("segment %d has %d of %d bytes: %w", s.seq, len(b), s.size, ErrTruncated)
	case uint64(len(b)) > s.size:
		return s, fmt.Errorf("segment %d has %d instead of %d bytes: %w", s.seq, len(b), s.size, ErrCorrupt)
	}
	return s, nil
}

// putFrame fills b, which is frameSize(payload) long and holds the payload
// already, with header and trailer.
func putFrame(b []byte, payload int, seq, record uint64) {
	binary.BigEndian.PutUint32(b, uint32(payload))
	b[4] = frameKind
	b[5], b[6], b[7] = 0, 0, 0
	binary.BigEndian.PutUint32(b[8:], uint32(record))
	binary.BigEndian.PutUint32(b[12:], headerSum(b, seq, record))
	clear(b[frameHeader+payload : len(b)-frameTrailer])
	t := b[len(b)-frameTrailer:]
	binary.BigEndian.PutUint32(t, trailerMagic)
	binary.BigEndian.PutUint32(t[4:], crc32.Checksum(b[:len(b)-4], castagnoli))
}

// headerSum binds a header to its segment and record number.
func headerSum(b []byte, seq, record uint64) uint32 {
	var place [16]byte
	binary.BigEndian.PutUint64(place[:], seq)
	binary.BigEndian.PutUint64(place[8:], record)
	return crc32.Update(crc32.Checksum(place[:], castagnoli), castagnoli, b[:12])
}

// scan calls fn with each payload of a segment, in order. It returns the offset
// after the last whole frame, the number of the next record, and whether the
// rest holds a torn write.
func scan(b []byte, seg segment, fn func(payload []byte) error) (end int, next uint64, torn bool, err error) {
	off, rec := segmentHeader, seg.first
	for off+frameHeader <= len(b) {
		h := b[off : off+frameHeader]
		if isZero(h) {
			break
		}
		n := int(binary.BigEndian.Uint32(h))
		if binary.BigEndian.Uint32(h[12:]) != headerSum(h, seg.seq, rec) || h[4] != frameKind ||
			n > maxRecord || off+frameSize(n) > len(b) {
			return off, rec, false, fmt.Errorf("segment %d, offset %d: frame header: %w", seg.seq, off, ErrCorrupt)
		}
		f := b[off : off+frameSize(n)]
		if !frameOK(f) {
			if isTorn(f, off) && !frameAfter(b[off:], seg.seq, rec) {
				return off, rec, true, nil
			}
			return off, rec, false, fmt.Errorf("segment %d, record %d: %w", seg.seq, rec, ErrCorrupt)
		}
		if err := fn(f[frameHeader : frameHeader+n]); err != nil {
			return off, rec, false, err
		}
		off += len(f)
		rec++
	}
	if isZero(b[off:]) {
		return off, rec, false, nil
	}
	if frameAfter(b[off:], seg.seq, rec) {
		return off, rec, false, fmt.Errorf("segment %d, record %d is gone: %w", seg.seq, rec, ErrCorrupt)
	}
	return off, rec, true, nil
}

func frameOK(f []byte) bool {
	t := f[len(f)-frameTrailer:]
	return binary.BigEndian.Uint32(t) == trailerMagic &&
		binary.BigEndian.Uint32(t[4:]) == crc32.Checksum(f[:len(f)-4], castagnoli)
}

// isTorn says whether some sector of a frame at an offset was never written.
func isTorn(f []byte, off int) bool {
	for i := 0; i < len(f); {
		n := min(sector-(off+i)%sector, len(f)-i)
		if isZero(f[i : i+n]) {
			return true
		}
		i += n
	}
	return false
}

// frameAfter looks for the header of a later record behind a place that is not
// whole: then that place was whole once.
func frameAfter(b []byte, seq, rec uint64) bool {
	for off := frameAlign; off+frameHeader <= len(b); off += frameAlign {
		h := b[off : off+frameHeader]
		if h[4] != frameKind {
			continue
		}
		for k := rec + 1; k < rec+8; k++ {
			if binary.BigEndian.Uint32(h[8:]) == uint32(k) && binary.BigEndian.Uint32(h[12:]) == headerSum(h, seq, k) {
				return true
			}
		}
	}
	return false
}

var zeros [4096]byte

func isZero(b []byte) bool {
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}
