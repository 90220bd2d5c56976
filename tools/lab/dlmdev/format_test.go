package dlmdev

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"unsafe"
)

// The C structures of include/uapi/linux/dlm_device.h, as a compiler lays them out.
type (
	cLockParams struct {
		mode, namelen       uint8
		_                   uint16
		flags, lkid         uint32
		_                   uint32 // parent
		_, _                uint64 // xid, timeout
		castparam, castaddr uint64
		_, _                uint64 // bastparam, bastaddr
		lksbp               uint64
		lvb                 [32]byte
	}
	cWriteRequest struct {
		version      [3]uint32
		cmd, is64bit uint8
		_            [2]uint8
		lock         cLockParams
	}
	cSpaceRequest struct {
		version      [3]uint32
		cmd, is64bit uint8
		_            [2]uint8
		flags, minor uint32
		name         [96]byte
	}
	cLksb struct {
		status int32
		lkid   uint32
		flags  uint8
		lvbptr uint64
	}
	cLockResult struct {
		version           [3]uint32
		length            uint32
		astaddr, astparam uint64
		userLksb          uint64
		lksb              cLksb
		bastMode          uint8
		unused            [3]uint8
		lvbOffset         uint32
		value             Value // where the kernel puts it
	}
)

func as[T any](t *testing.T, b []byte) *T {
	t.Helper()
	if uintptr(len(b)) < unsafe.Sizeof(*new(T)) {
		t.Fatalf("%d bytes are fewer than %d", len(b), unsafe.Sizeof(*new(T)))
	}
	return (*T)(unsafe.Pointer(&b[0]))
}

func TestLockRequest(t *testing.T) {
	value := Value{1, 2, 31: 3}
	b := lockRequest{cmd: cmdLock, mode: PW, flags: NoQueue | valueBlock, id: 7, cookie: 99, value: value, name: "counter"}.encode()
	c := as[cWriteRequest](t, b)
	if unsafe.Sizeof(*c) != requestLen || string(b[requestLen:]) != "counter" {
		t.Errorf("%d bytes and %q", unsafe.Sizeof(*c), b[requestLen:])
	}
	want := cWriteRequest{version: [3]uint32{6, 0, 0}, cmd: 1, is64bit: 1,
		lock: cLockParams{mode: 4, namelen: 7, flags: 9, lkid: 7, castparam: 99, castaddr: 99, lksbp: 99, lvb: value}}
	if *c != want {
		t.Errorf("%+v", *c)
	}
}

func TestSpaceRequest(t *testing.T) {
	long := string(bytes.Repeat([]byte("n"), MaxName))
	c := as[cSpaceRequest](t, spaceRequest{cmd: cmdCreate, flags: newExclusive, name: long}.encode())
	if c.version[0] != 6 || c.cmd != 4 || c.is64bit != 1 || c.flags != 8 || string(c.name[:MaxName+1]) != long+"\x00" {
		t.Errorf("%+v", *c)
	}
	c = as[cSpaceRequest](t, spaceRequest{cmd: cmdRelease, flags: forceFree, minor: 120}.encode())
	if c.cmd != 5 || c.flags != 2 || c.minor != 120 {
		t.Errorf("%+v", *c)
	}
}

// resultBytes is what the kernel copies out.
func resultBytes(c cLockResult, withValue bool) []byte {
	c.version, c.length = [3]uint32{6, 0, 2}, resultLen
	if withValue {
		c.length, c.lvbOffset = resultLen+ValueLen, resultLen
	}
	b := (*[unsafe.Sizeof(c)]byte)(unsafe.Pointer(&c))[:c.length]
	return bytes.Clone(b)
}

func TestParseResult(t *testing.T) {
	if n := unsafe.Offsetof(cLockResult{}.value); n != resultLen {
		t.Fatalf("a result has %d bytes", n)
	}
	c := cLockResult{astparam: 5, lksb: cLksb{status: -11, lkid: 8, flags: 2, lvbptr: 1 << 40}, value: Value{9}}
	r, err := parseResult(resultBytes(c, true))
	if err != nil || r.cookie != 5 || r.status != -11 || r.id != 8 || r.flags != valueNotValid || r.value == nil || *r.value != c.value {
		t.Errorf("%+v, %v", r, err)
	}
	c.bastMode = uint8(PR)
	if r, err = parseResult(resultBytes(c, false)); err != nil || r.value != nil || r.blocking != PR {
		t.Errorf("%+v, %v", r, err)
	}
	short := resultBytes(c, true)
	past := bytes.Clone(short)
	binary.NativeEndian.PutUint32(past[68:], 73)
	for _, bad := range [][]byte{nil, short[:71], short[:90], past} {
		if r, err := parseResult(bad); !errors.Is(err, errResult) {
			t.Errorf("%d bytes are %+v, %v", len(bad), r, err)
		}
	}
}

func FuzzParseResult(f *testing.F) {
	f.Add(resultBytes(cLockResult{astparam: 5}, true))
	f.Add(resultBytes(cLockResult{lksb: cLksb{status: statusUnlocked}}, false))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseResult(b); err != nil && !errors.Is(err, errResult) {
			t.Fatal(err)
		}
	})
}

func TestParseMode(t *testing.T) {
	for m := NL; m <= EX; m++ {
		if got, err := ParseMode(m.String()); err != nil || got != m {
			t.Errorf("%s is %s, %v", m, got, err)
		}
	}
	if m, err := ParseMode("ex"); err != nil || m != EX {
		t.Errorf("ex is %s, %v", m, err)
	}
	if m, err := ParseMode("XX"); err == nil {
		t.Errorf("XX is %s", m)
	}
	if s := Mode(9).String(); s != "mode(9)" {
		t.Error(s)
	}
}
