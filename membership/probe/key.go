package probe

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
)

// Key is the SipHash key of one epoch. It never prints.
type Key struct {
	epoch uint32
	words *[2]uint64
}

// NewKey makes a key of its 16 bytes.
func NewKey(epoch uint32, b [16]byte) Key {
	le := binary.LittleEndian
	return Key{epoch: epoch, words: &[2]uint64{le.Uint64(b[:8]), le.Uint64(b[8:])}}
}

// Epoch is the number that packets name the key by.
func (k Key) Epoch() uint32 { return k.epoch }

// Words returns k0 and k1 of SipHash, for a map of the kernel's program.
func (k Key) Words() (k0, k1 uint64) { return k.words[0], k.words[1] }

// Zero says whether this is no key.
func (k Key) Zero() bool { return k.words == nil }

// String names the epoch alone.
func (k Key) String() string { return fmt.Sprintf("probe key (epoch %d, redacted)", k.epoch) }

// Format keeps every verb from the key.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue keeps slog from the key.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }
