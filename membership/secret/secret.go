package secret

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"

	"github.com/quorate/quorate/membership/probe"
	"github.com/quorate/quorate/membership/rotation"
)

const (
	// Path is where the file belongs.
	Path = "/etc/quorate/quorate.key"
	// MaxFile is the largest file that is read, in bytes.
	MaxFile = 4096
	// MaxKeys is the number of epochs that may overlap.
	MaxKeys = rotation.MaxKeys

	version = "quorate-key-1"
	length  = 32
)

// The ways in which a secret cannot be had. Test for them with errors.Is.
var (
	ErrMissing = errors.New("there is no secret file")
	ErrExists  = errors.New("a secret file exists already")
	ErrMode    = errors.New("the secret file can be read or written by others")
	ErrFormat  = errors.New("the secret file is not in the expected form")
)

// OpError says what failed on which file. Its text says what to do next.
type OpError struct {
	Op   string // load, write
	Path string
	Err  error
}

func (e *OpError) Error() string { return e.Op + " " + e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// Secret is the keys of one file. The zero value has none. It is a value that
// may be copied and used by several goroutines.
type Secret struct{ keys []*key }

type key struct {
	epoch   uint32
	bytes   [length]byte
	rotated bool
}

// rotated is the fourth word of a line that `quorate key rotate` made: its key takes over by itself.
const rotated = "rotated"

// New returns a secret with one random key, epoch 1, that is in no file.
func New() (Secret, error) {
	k := &key{epoch: 1}
	if _, err := rand.Read(k.bytes[:]); err != nil {
		return Secret{}, fmt.Errorf("reading random bytes: %w", err)
	}
	return Secret{keys: []*key{k}}, nil
}

// Generate writes the text of a new secret with one random key, epoch 1.
func Generate(w io.Writer) error {
	s, err := New()
	if err != nil {
		return err
	}
	_, err = w.Write(s.text())
	return err
}

func (s Secret) text() []byte {
	var b bytes.Buffer
	for _, k := range s.keys {
		b.Write(k.line())
	}
	return b.Bytes()
}

func (k *key) line() []byte {
	b := fmt.Appendf(nil, "%s %d %s", version, k.epoch, base64.RawURLEncoding.EncodeToString(k.bytes[:]))
	if k.rotated {
		b = append(b, " "+rotated...)
	}
	return append(b, '\n')
}

// Parse reads the text of a secret file. Its errors wrap ErrFormat, name the
// line and never repeat what stands in it.
func Parse(text []byte) (Secret, error) {
	if len(text) > MaxFile {
		return Secret{}, formatError("it has %d bytes, at most %d are read", len(text), MaxFile)
	}
	var s Secret
	number := 0
	for line := range bytes.Lines(text) {
		number++
		fields := bytes.Fields(line)
		if len(fields) == 0 || fields[0][0] == '#' {
			continue
		}
		k, err := parseKey(fields)
		if err != nil {
			return Secret{}, fmt.Errorf("line %d: %w", number, err)
		}
		for _, o := range s.keys {
			if o.epoch == k.epoch {
				return Secret{}, fmt.Errorf("line %d: %w", number, formatError("epoch %d stands there twice", k.epoch))
			}
		}
		s.keys = append(s.keys, k)
	}
	switch {
	case len(s.keys) == 0:
		return Secret{}, formatError("it holds no key")
	case len(s.keys) > MaxKeys:
		return Secret{}, formatError("it holds %d keys, at most %d may overlap", len(s.keys), MaxKeys)
	}
	return s, nil
}

func parseKey(fields [][]byte) (*key, error) {
	if string(fields[0]) != version {
		return nil, formatError("the line does not begin with %q", version)
	}
	if len(fields) != 3 && (len(fields) != 4 || string(fields[3]) != rotated) {
		return nil, formatError("%d words instead of 3 (a fourth can only be %q)", len(fields), rotated)
	}
	epoch, err := strconv.ParseUint(string(fields[1]), 10, 32)
	if err != nil || epoch == 0 {
		return nil, formatError("the epoch is not a number from 1 to 4294967295")
	}
	raw := make([]byte, base64.RawURLEncoding.DecodedLen(len(fields[2])))
	n, err := base64.RawURLEncoding.Strict().Decode(raw, fields[2])
	if err != nil || n != length {
		return nil, formatError("the key is not %d bytes in base64url (43 characters)", length)
	}
	k := &key{epoch: uint32(epoch), rotated: len(fields) == 4}
	copy(k.bytes[:], raw)
	if k.bytes == [length]byte{} {
		return nil, formatError("the key is all zeros")
	}
	return k, nil
}

func formatError(format string, args ...any) error {
	return fmt.Errorf("%w: %s; each line is \"%s <epoch> <key>\": copy the file from another node, or make one with quorate keygen",
		ErrFormat, fmt.Sprintf(format, args...), version)
}

// Epochs returns the epochs of the keys, the one to send with first.
func (s Secret) Epochs() []uint32 {
	out := make([]uint32, len(s.keys))
	for i, k := range s.keys {
		out[i] = k.epoch
	}
	return out
}

// Keys names the keys by epoch and fingerprint, the one to send with first, and
// those of them that a rotation made.
func (s Secret) Keys() (all, made []rotation.Key, err error) {
	for _, k := range s.keys {
		id, err := k.id()
		if err != nil {
			return nil, nil, err
		}
		all = append(all, id)
		if k.rotated {
			made = append(made, id)
		}
	}
	return all, made, nil
}

// id names the key. The fingerprint is derived as everything else is, and tells
// nothing of the key.
func (k *key) id() (rotation.Key, error) {
	b, err := k.derive("fingerprint", rotation.PrintLen/2)
	return rotation.Key{Epoch: k.epoch, Print: hex.EncodeToString(b)}, err
}

// Empty says whether there is no key at all.
func (s Secret) Empty() bool { return len(s.keys) == 0 }

// ProbeKeys returns the keys of the probes' MAC, the one to send with first.
func (s Secret) ProbeKeys() ([]probe.Key, error) {
	out := make([]probe.Key, len(s.keys))
	for i, k := range s.keys {
		b, err := k.derive("probe siphash-2-4", 16)
		if err != nil {
			return nil, err
		}
		out[i] = probe.NewKey(k.epoch, [16]byte(b))
	}
	return out, nil
}

// derive returns n bytes that depend on the key and the purpose alone. The
// epoch is not part of it: two files that number the same key differently agree.
func (k *key) derive(purpose string, n int) ([]byte, error) {
	b, err := hkdf.Key(sha256.New, k.bytes[:], nil, "quorate 1 "+purpose, n)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	return b, nil
}

// String names the epochs and no key.
func (s Secret) String() string { return fmt.Sprintf("secret (epochs %v, redacted)", s.Epochs()) }

// Format keeps every verb from the keys.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue keeps slog from the keys.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps JSON and its like from the keys.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
