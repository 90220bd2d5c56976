package carrier

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/tools/wires"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// message is one of rtnetlink, with an ifinfomsg of so many bytes.
func message(kind uint16, index int32, flags uint32, size int) []byte {
	b := make([]byte, 16+infoLen)
	binary.NativeEndian.PutUint32(b, uint32(16+size))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint32(b[16+infoIndex:], uint32(index))
	binary.NativeEndian.PutUint32(b[16+infoFlags:], flags)
	return b[:16+size]
}

func TestParse(t *testing.T) {
	const up = unix.IFF_UP | unix.IFF_LOWER_UP
	all := slices.Concat(message(unix.RTM_NEWLINK, 2, up, infoLen), message(unix.RTM_NEWLINK, 3, unix.IFF_UP, infoLen),
		message(unix.RTM_DELLINK, 4, 0, infoLen), message(unix.RTM_NEWLINK, 5, 0, infoLen), message(unix.RTM_NEWLINK, -1, 0, infoLen))
	if got := Parse(all); !slices.Equal(got, []int{3, 5}) {
		t.Errorf("%v", got)
	}
	for _, b := range [][]byte{nil, message(unix.RTM_NEWLINK, 3, 0, 12), message(unix.RTM_NEWLINK, 3, 0, infoLen)[:20], {16, 0, 0, 0}} {
		if got := Parse(b); got != nil {
			t.Errorf("%v of % x", got, b)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(message(unix.RTM_NEWLINK, 3, 0, infoLen))
	f.Add(message(unix.RTM_NEWLINK, 3, unix.IFF_LOWER_UP, infoLen))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, i := range Parse(b) {
			if i <= 0 {
				t.Errorf("interface %d", i)
			}
		}
	})
}

func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- Watch(ctx, func(int) {}) }()
	time.Sleep(10 * time.Millisecond)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestCarrier: the far end of a link goes down.
func TestCarrier(t *testing.T) {
	w := wires.New(t, 1, 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lost, done := make(chan int, 100), make(chan error, 1)
	var want int
	var f *os.File
	err := w.Do(1, func() error {
		i, err := net.InterfaceByName(wires.Interface(1))
		if err == nil {
			want = i.Index
			f, err = open()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- watch(ctx, f, func(i int) { lost <- i }) }()
	w.Down(1, 1)
	select {
	case got := <-lost:
		if got != want {
			t.Errorf("interface %d, want %d", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Error("nothing was told")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
