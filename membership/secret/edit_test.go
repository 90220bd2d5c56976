package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/membership/rotation"
)

func secretFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "quorate.key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func ids(t *testing.T, s Secret) []rotation.Key {
	t.Helper()
	all, _, err := s.Keys()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A rotation changes the lines of its keys and no other.
func TestAFileIsChanged(t *testing.T) {
	const head, tail = "# the keys of tank\n\n", "# end, without a newline"
	path := secretFile(t, head+line(1, keyText)+tail)
	drawn, err := Draw(2)
	if err != nil {
		t.Fatal(err)
	}
	two := string(drawn.text())
	if !strings.HasSuffix(two, " rotated\n") {
		t.Fatal("a key that was drawn for a rotation is not marked")
	}
	f := open(t, path)
	one, new := ids(t, f.Secret())[0], ids(t, drawn)[0]
	must := func(err error) {
		t.Helper()
		if err := errors.Join(err, f.Write()); err != nil {
			t.Fatal(err)
		}
		f = open(t, path)
	}
	must(f.Add(drawn))
	if got, want := text(t, path), head+line(1, keyText)+tail+"\n"+two; got != want {
		t.Fatalf("added: %q, not %q", got, want)
	}
	must(f.First(new))
	if got, want := text(t, path), head+two+line(1, keyText)+tail+"\n"; got != want {
		t.Fatalf("first: %q, not %q", got, want)
	}
	if got := f.Secret().Epochs(); !slices.Equal(got, []uint32{2, 1}) {
		t.Fatal(got)
	}
	must(f.Remove(one))
	if got, want := text(t, path), head+two+tail+"\n"; got != want {
		t.Fatalf("removed: %q, not %q", got, want)
	}
	if all, made, err := f.Secret().Keys(); err != nil || len(all) != 1 || !slices.Equal(all, made) {
		t.Fatal(all, made, err)
	}
	other, err := Draw(2)
	if err != nil {
		t.Fatal(err)
	}
	must(f.Replace(new, other))
	if got := ids(t, f.Secret()); got[0].Epoch != 2 || got[0] == new {
		t.Fatal("not replaced")
	}
	for what, err := range map[string]error{"add twice": f.Add(other), "the last": f.Remove(ids(t, other)[0]),
		"first of none": f.First(one), "replace none": f.Replace(one, other), "remove none": f.Remove(one)} {
		if !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What is written is whole, root's alone, and where a link led to; a file that a
// crash left behind is in nobody's way.
func TestAFileIsReplaced(t *testing.T) {
	path := secretFile(t, line(1, keyText))
	link := filepath.Join(t.TempDir(), "link")
	if err := errors.Join(os.Symlink(path, link), os.WriteFile(path+".new", []byte("half"), 0o644)); err != nil {
		t.Fatal(err)
	}
	f := open(t, link)
	drawn, err := Draw(7)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Add(drawn), f.Write()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if l, err := os.Lstat(link); err != nil || l.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v %v", l.Mode(), err)
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
	if s, err := Load(link); err != nil || len(s.Epochs()) != 2 {
		t.Error(s, err)
	}
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	var op *OpError
	if err := f.Write(); !errors.As(err, &op) || op.Op != "write" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into no directory: %v", err)
	}
	if _, err := Open(link); !errors.Is(err, ErrMissing) {
		t.Errorf("open: %v", err)
	}
}

func TestAFileThatWouldBeTooLong(t *testing.T) {
	path := secretFile(t, line(1, keyText)+"#"+strings.Repeat("x", MaxFile-len(line(1, keyText))-1))
	before := text(t, path)
	f := open(t, path)
	drawn, err := Draw(2)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Add(drawn), f.Write()); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
	if text(t, path) != before {
		t.Error("the file was touched")
	}
}

// A key goes from one file to another, and to nowhere else.
func TestAKeyIsHandedOver(t *testing.T) {
	s := must(t, strings.TrimSpace(line(3, keyText))+" rotated\n"+line(1, strings.Repeat("B", 42)+"A"))
	id := ids(t, s)[0]
	b, ok := s.Hand(id)
	if !ok || string(b) != strings.TrimSuffix(line(3, keyText), "\n")+" rotated\n" {
		t.Fatalf("%q", b)
	}
	got, of, err := Handed(b)
	if err != nil || of != id || ids(t, got)[0] != id {
		t.Fatal(of, err)
	}
	if _, ok := s.Hand(rotation.Key{Epoch: 3, Print: strings.Repeat("0", 16)}); ok {
		t.Error("another key of that epoch was handed")
	}
	if _, ok := s.Hand(ids(t, s)[1]); ok {
		t.Error("a key that was added by hand was handed over")
	}
	for name, text := range map[string]string{"not of a rotation": line(3, keyText), "two": string(b) + "quorate-key-1 4 " + strings.Repeat("B", 42) + "A rotated\n", "none": "", "cut": string(b[:30]), "fifth word": strings.TrimSpace(string(b)) + " x"} {
		if _, _, err := Handed([]byte(text)); !errors.Is(err, ErrFormat) || strings.Contains(err.Error(), keyText[:10]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := open(t, secretFile(t, line(3, keyText)))
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "file", f)
	if all := fmt.Sprintf("%v %+v %#v %s %s", f, f, f, f, log.String()); strings.Contains(all, keyText[:10]) || !strings.Contains(all, "redacted") {
		t.Error(all)
	}
}

// A fingerprint tells keys apart and depends on nothing but the key.
func TestFingerprints(t *testing.T) {
	a, b := ids(t, must(t, line(7, keyText)))[0], ids(t, must(t, line(8, keyText+" rotated")))[0]
	if a.Print != b.Print || a.Epoch != 7 || b.Epoch != 8 || len(a.Print) != rotation.PrintLen {
		t.Error(a, b)
	}
	if a.Print != "dbf911a37b56726e" {
		t.Errorf("a contract between releases: %s", a.Print)
	}
}

// However a file is changed, it stays one that can be read, and other lines stay.
func TestAnyChangesKeepTheFile(t *testing.T) {
	path := secretFile(t, "# a\n"+line(1, keyText)+"# b\n")
	original := text(t, path)
	rapid.Check(t, func(t *rapid.T) {
		if err := os.WriteFile(path, []byte(original), 0o600); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			f, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			have, _, err := f.Secret().Keys()
			if err != nil {
				t.Fatal(err)
			}
			k := have[rapid.IntRange(0, len(have)-1).Draw(t, "key")]
			drawn, err := Draw(uint32(rapid.IntRange(1, 5).Draw(t, "epoch")))
			if err != nil {
				t.Fatal(err)
			}
			switch rapid.IntRange(0, 2).Draw(t, "change") {
			case 0:
				err = f.Add(drawn)
			case 1:
				err = f.First(k)
				if f.Secret().Epochs()[0] != k.Epoch {
					t.Fatalf("%v is not the first", k)
				}
			case 2:
				err = f.Remove(k)
			}
			if err != nil && !errors.Is(err, ErrKey) {
				t.Fatal(err)
			}
			if err := f.Write(); err != nil {
				t.Fatal(err)
			}
			s, err := Load(path)
			if err != nil || !slices.Equal(s.Epochs(), f.Secret().Epochs()) {
				t.Fatal(s, err)
			}
		}
		b, err := os.ReadFile(path)
		if err != nil || strings.Count(string(b), "# a\n") != 1 || strings.Count(string(b), "# b\n") != 1 {
			t.Fatal("a line is lost")
		}
	})
}

func FuzzHanded(f *testing.F) {
	f.Add([]byte("quorate-key-1 2 " + keyText + " rotated\n"))
	f.Add([]byte("# x\nquorate-key-1 2 " + keyText + " rotated"))
	f.Add([]byte(line(1, keyText)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, id, err := Handed(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) || len(err.Error()) > 400 {
				t.Errorf("%v", err)
			}
			return
		}
		again, ok := s.Hand(id)
		if _, o, err := Handed(again); !ok || err != nil || o != id {
			t.Errorf("%v is handed on as %v: %v", id, o, err)
		}
	})
}
