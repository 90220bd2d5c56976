package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/quorate/quorate/membership/rotation"
)

// ErrKey is a key that a change names and that is not there, or is there already.
var ErrKey = errors.New("the secret file has other keys")

// Draw returns a secret with one random key of an epoch, made by a rotation.
func Draw(epoch uint32) (Secret, error) {
	s, err := New()
	if err != nil {
		return Secret{}, err
	}
	s.keys[0].epoch, s.keys[0].rotated = epoch, true
	return s, nil
}

// Hand returns the line of one key as a peer is handed it. THAT IS THE KEY: it goes
// into an authenticated connection and nowhere else. One that did not come by a
// rotation is never handed over: whoever added it by hand may have had a reason not to
// trust those who have the key before it.
func (s Secret) Hand(id rotation.Key) ([]byte, bool) {
	i := s.find(id)
	if i < 0 || !s.keys[i].rotated {
		return nil, false
	}
	return s.keys[i].line(), true
}

// Handed reads what Hand gave: one key. Its errors never repeat what stands in it.
func Handed(line []byte) (Secret, rotation.Key, error) {
	s, err := Parse(line)
	if err != nil {
		return Secret{}, rotation.Key{}, err
	}
	if len(s.keys) != 1 || !s.keys[0].rotated {
		return Secret{}, rotation.Key{}, formatError("%d keys, or not one of a rotation", len(s.keys))
	}
	id, err := s.keys[0].id()
	return s, id, err
}

func (s Secret) find(id rotation.Key) int {
	return slices.IndexFunc(s.keys, func(k *key) bool {
		of, err := k.id()
		return err == nil && of == id
	})
}

// File is the text of a secret file, to be changed. Like a Secret it never prints.
type File struct {
	path  string
	lines []fileLine
}

// fileLine is a line with its end; key is nil where it has none.
type fileLine struct {
	text []byte
	key  *key
}

// Open reads the secret file at path, as Load does, for a change. Where path is a
// link, the file that it leads to is meant.
func Open(path string) (*File, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		real, err = path, nil // said better below
	}
	if err != nil {
		return nil, &OpError{Op: "load", Path: path, Err: cause(err)}
	}
	text, err := readText(real)
	if err == nil {
		_, err = Parse(text)
	}
	if err != nil {
		return nil, &OpError{Op: "load", Path: path, Err: err}
	}
	f := &File{path: real}
	for line := range bytes.Lines(text) {
		l := fileLine{text: bytes.TrimSuffix(line, []byte("\n"))}
		l.text = append(slices.Clone(l.text), '\n')
		if fields := bytes.Fields(line); len(fields) > 0 && fields[0][0] != '#' {
			l.key, _ = parseKey(fields) // Parse found it good
		}
		f.lines = append(f.lines, l)
	}
	return f, nil
}

// Secret is what the file would give if it were written now.
func (f *File) Secret() Secret {
	var s Secret
	for _, l := range f.lines {
		if l.key != nil {
			s.keys = append(s.keys, l.key)
		}
	}
	return s
}

// Add appends a key.
func (f *File) Add(s Secret) error {
	if have := f.Secret(); len(have.keys) >= MaxKeys || slices.ContainsFunc(have.keys, func(k *key) bool { return k.epoch == s.keys[0].epoch }) {
		return fmt.Errorf("%w: %d keys, or one of epoch %d already", ErrKey, len(have.keys), s.keys[0].epoch)
	}
	f.lines = append(f.lines, fileLine{s.keys[0].line(), s.keys[0]})
	return nil
}

// Replace puts a key in the place of another.
func (f *File) Replace(old rotation.Key, s Secret) error {
	i := f.at(old)
	if i < 0 {
		return fmt.Errorf("%w: there is no key %v", ErrKey, old)
	}
	f.lines[i] = fileLine{s.keys[0].line(), s.keys[0]}
	return nil
}

// First moves a key before all others: it is sent with.
func (f *File) First(id rotation.Key) error {
	i := f.at(id)
	if i < 0 {
		return fmt.Errorf("%w: there is no key %v", ErrKey, id)
	}
	l := f.lines[i]
	f.lines = slices.Delete(f.lines, i, i+1)
	to := slices.IndexFunc(f.lines, func(l fileLine) bool { return l.key != nil })
	f.lines = slices.Insert(f.lines, max(to, 0), l)
	return nil
}

// Remove takes a key out. The last one stays.
func (f *File) Remove(id rotation.Key) error {
	i := f.at(id)
	if i < 0 || len(f.Secret().keys) == 1 {
		return fmt.Errorf("%w: there is no key %v, or no other", ErrKey, id)
	}
	f.lines = slices.Delete(f.lines, i, i+1)
	return nil
}

func (f *File) at(id rotation.Key) int {
	return slices.IndexFunc(f.lines, func(l fileLine) bool {
		if l.key == nil {
			return false
		}
		of, err := l.key.id()
		return err == nil && of == id
	})
}

// Write puts the file in the place of the one that was read: durably, at once, mode 0600.
func (f *File) Write() error {
	if err := f.write(); err != nil {
		return &OpError{Op: "write", Path: f.path, Err: err}
	}
	return nil
}

func (f *File) write() error {
	var text bytes.Buffer
	for _, l := range f.lines {
		text.Write(l.text)
	}
	if text.Len() > MaxFile {
		return formatError("it would have %d bytes, at most %d are read", text.Len(), MaxFile)
	}
	next := f.path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cause(err)
	}
	out, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return cause(err)
	}
	_, err = out.Write(text.Bytes())
	err = errors.Join(err, out.Chmod(0o600), out.Sync())
	err = errors.Join(err, out.Close())
	if err == nil {
		err = os.Rename(next, f.path)
	}
	if err != nil {
		_ = os.Remove(next)
		return cause(err)
	}
	return cause(SyncDir(filepath.Dir(f.path)))
}

// String names the epochs and no key.
func (f *File) String() string { return "file of " + f.Secret().String() }

// Format keeps every verb from the keys.
func (f *File) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(f.String())) }
