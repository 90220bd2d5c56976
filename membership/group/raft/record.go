package raft

import (
	"encoding/binary"
	"fmt"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// recordVersion is the first byte of every record on disk.
const recordVersion = 2

// The parts of a record, a bit each.
const (
	hasCheckpoint byte = 1 << iota
	hasIdentity
	hasHardState
	hasSnapshot
)

// appendRecord gives the form of a record on disk.
func appendRecord(b []byte, r *Record) ([]byte, error) {
	flags := boolByte(r.Checkpoint) * hasCheckpoint
	if r.Identity != nil {
		flags |= hasIdentity
	}
	if r.HardState != nil {
		flags |= hasHardState
	}
	if r.Snapshot != nil {
		flags |= hasSnapshot
	}
	b = append(b, recordVersion, flags)
	if r.Identity != nil {
		b = binary.BigEndian.AppendUint64(b, r.Identity.RaftID)
		b = appendString(b, r.Identity.ClusterID)
		b = binary.BigEndian.AppendUint64(appendGeneration(b, r.Identity.Pledge.Generation), r.Identity.Pledge.Maker)
		b = binary.BigEndian.AppendUint64(appendGeneration(b, r.Identity.Kept.Generation), r.Identity.Kept.Index)
	}
	if r.HardState != nil {
		b = binary.BigEndian.AppendUint64(b, r.HardState.GetTerm())
		b = binary.BigEndian.AppendUint64(b, r.HardState.GetVote())
		b = binary.BigEndian.AppendUint64(b, r.HardState.GetCommit())
	}
	var err error
	if r.Snapshot != nil {
		if b, err = appendProto(b, r.Snapshot); err != nil {
			return nil, err
		}
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Entries)))
	for _, e := range r.Entries {
		if b, err = appendProto(b, e); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendProto(b []byte, m proto.Message) ([]byte, error) {
	n := proto.Size(m)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	return proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, m)
}

// parseRecord reads what appendRecord wrote.
func parseRecord(b []byte) (*Record, error) {
	r := reader{b: b}
	head := r.bytes(2)
	if r.err != nil || head[0] != recordVersion || head[1]&^(hasCheckpoint|hasIdentity|hasHardState|hasSnapshot) != 0 {
		return nil, fmt.Errorf("record of an unknown form: %w", ErrCorrupt)
	}
	rec := &Record{Checkpoint: head[1]&hasCheckpoint != 0}
	if head[1]&hasIdentity != 0 {
		rec.Identity = &Identity{RaftID: r.uint64(), ClusterID: r.string(maxClusterID), Pledge: Pledge{r.generation(), r.uint64()}, Kept: Kept{r.generation(), r.uint64()}}
	}
	if head[1]&hasHardState != 0 {
		rec.HardState = hardState(r.uint64(), r.uint64(), r.uint64())
	}
	if head[1]&hasSnapshot != 0 {
		rec.Snapshot = &pb.Snapshot{}
		r.proto(rec.Snapshot)
	}
	for range r.count(len(r.b), 4) {
		e := &pb.Entry{}
		r.proto(e)
		rec.Entries = append(rec.Entries, e)
		if r.err != nil {
			break
		}
	}
	if r.end() != nil {
		return nil, fmt.Errorf("record: %w", ErrCorrupt)
	}
	return rec, nil
}

func (r *reader) proto(m proto.Message) {
	b := r.bytes(int(r.uint32()))
	if r.err == nil && unmarshal(b, m) != nil {
		r.err = ErrWire
	}
}
