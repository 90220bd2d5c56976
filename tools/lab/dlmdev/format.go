package dlmdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Mode is how a lock excludes others, from weak to strong (dlmconstants.h).
type Mode uint8

// The modes.
const (
	NL Mode = iota // null: excludes nobody
	CR             // concurrent read
	CW             // concurrent write
	PR             // protected read: shared
	PW             // protected write: update
	EX             // exclusive
)

var modeNames = []string{"NL", "CR", "CW", "PR", "PW", "EX"}

// String implements fmt.Stringer.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// ParseMode reads a mode's two letters.
func ParseMode(s string) (Mode, error) {
	i := slices.Index(modeNames, strings.ToUpper(s))
	if i < 0 {
		return 0, fmt.Errorf("%q is no lock mode: one of %s", s, strings.Join(modeNames, " "))
	}
	return Mode(i), nil
}

// Flags of a lock request: DLM_LKF_* of dlmconstants.h.
type Flags uint32

// The flags that this package knows.
const (
	NoQueue    Flags = 0x1 // refuse with EAGAIN rather than wait
	convert    Flags = 0x4
	valueBlock Flags = 0x8
)

// What the kernel says with a completed request: DLM_SBF_* of dlm.h.
const valueNotValid = 0x2

// ValueLen is the size of a value block in a lockspace made here, in bytes.
const ValueLen = 32

// Value is what a resource keeps for those who lock it: it is read with every
// lock, and written by who gives up PW or EX. The kernel forgets it when nobody
// has a lock of the resource any more, not even NL.
type Value [ValueLen]byte

// MaxName is the longest name of a resource or a lockspace, in bytes.
const MaxName = 64

// command is what a request wants.
type command uint8

const (
	cmdLock    command = 1
	cmdUnlock  command = 2
	cmdCreate  command = 4
	cmdRelease command = 5
)

const (
	forceFree    = 0x2 // release: with the locks that are still held
	newExclusive = 0x8 // create: an error if the node has it already
)

// requestLen is sizeof(struct dlm_write_request), the least that the kernel takes.
const requestLen = 120

func newRequest(cmd command, size int) []byte {
	b := make([]byte, max(size, requestLen))
	binary.NativeEndian.PutUint32(b, 6) // version 6.0.0: every 6.0 takes it
	b[12], b[13] = byte(cmd), 1         // pointers of 64 bits
	return b
}

// lockRequest is a lock, a conversion or an unlock.
type lockRequest struct {
	cmd    command
	mode   Mode
	flags  Flags
	id     uint32 // of the lock, but for a new one
	cookie uint64 // comes back with the result; not 0
	value  Value
	name   string
}

func (r lockRequest) encode() []byte {
	b := newRequest(r.cmd, requestLen+len(r.name))
	b[16], b[17] = byte(r.mode), byte(len(r.name))
	binary.NativeEndian.PutUint32(b[20:], uint32(r.flags))
	binary.NativeEndian.PutUint32(b[24:], r.id)
	// The kernel gives these three back and does not follow them. It refuses a
	// request whose castaddr or lksb is 0.
	binary.NativeEndian.PutUint64(b[48:], r.cookie) // castparam
	binary.NativeEndian.PutUint64(b[56:], r.cookie) // castaddr
	binary.NativeEndian.PutUint64(b[80:], r.cookie) // lksb
	copy(b[88:requestLen], r.value[:])
	copy(b[requestLen:], r.name)
	return b
}

// spaceRequest creates or releases a lockspace.
type spaceRequest struct {
	cmd   command
	flags uint32
	minor uint32 // release: of its device
	name  string // create
}

func (r spaceRequest) encode() []byte {
	b := newRequest(r.cmd, 24+len(r.name)+1)
	binary.NativeEndian.PutUint32(b[16:], r.flags)
	binary.NativeEndian.PutUint32(b[20:], r.minor)
	copy(b[24:], r.name)
	return b
}

// result is what a device says of a request that is done.
type result struct {
	cookie   uint64
	status   int32  // 0, a negative errno, or one of the two below
	id       uint32 // the lock
	flags    byte
	blocking Mode   // not a completion: somebody waits for the lock, in this mode
	value    *Value // nil: none came
}

const statusUnlocked = -0x10002 // DLM_EUNLOCK: it is unlocked, as asked

// resultLen is sizeof(struct dlm_lock_result); a value block may follow.
const resultLen = 72

var errResult = errors.New("malformed result of the DLM's device")

func parseResult(b []byte) (r result, err error) {
	if len(b) < resultLen {
		return r, fmt.Errorf("%w: %d bytes", errResult, len(b))
	}
	r.cookie = binary.NativeEndian.Uint64(b[24:])
	r.status = int32(binary.NativeEndian.Uint32(b[40:]))
	r.id = binary.NativeEndian.Uint32(b[44:])
	r.flags, r.blocking = b[48], Mode(b[64])
	if at := binary.NativeEndian.Uint32(b[68:]); at != 0 {
		if at < resultLen || uint64(at)+ValueLen > uint64(len(b)) {
			return r, fmt.Errorf("%w: value block at %d of %d", errResult, at, len(b))
		}
		r.value = (*Value)(b[at:])
	}
	return r, nil
}
