package secret

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const keyText = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

func line(epoch int, key string) string { return fmt.Sprintf("quorate-key-1 %d %s\n", epoch, key) }

func must(t *testing.T, text string) Secret {
	t.Helper()
	s, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestGenerateParses(t *testing.T) {
	var a, b bytes.Buffer
	if err := errors.Join(Generate(&a), Generate(&b)); err != nil {
		t.Fatal(err)
	}
	if a.String() == b.String() {
		t.Error("the same secret twice")
	}
	if got := must(t, a.String()).Epochs(); len(got) != 1 || got[0] != 1 {
		t.Errorf("epochs %v", got)
	}
	if err := Generate(failing{}); err == nil {
		t.Error("a failing writer is not noticed")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestParse(t *testing.T) {
	s := must(t, "# the cluster's keys\n\n"+line(2, keyText)+"  quorate-key-1\t1 "+strings.Repeat("B", 42)+"A")
	if got := s.Epochs(); len(got) != 2 || got[0] != 2 || got[1] != 1 {
		t.Errorf("epochs %v", got)
	}
	long := line(1, keyText) + strings.Repeat("#", MaxFile)
	five := ""
	for i := range 5 {
		five += line(i+1, keyText)
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty":         {"", "no key"},
		"comment":       {"# nothing\n", "no key"},
		"other version": {"quorate-key-2 1 " + keyText, "line 1"},
		"two words":     {"quorate-key-1 " + keyText, "2 words"},
		"epoch 0":       {line(0, keyText), "epoch"},
		"epoch":         {"quorate-key-1 x " + keyText, "epoch"},
		"epoch large":   {"quorate-key-1 4294967296 " + keyText, "epoch"},
		"short":         {line(1, keyText[:42]), "32 bytes"},
		"long key":      {line(1, keyText+"AA"), "32 bytes"},
		"not base64":    {line(1, keyText[:42]+"!"), "32 bytes"},
		"loose bits":    {line(1, strings.Repeat("B", 43)), "32 bytes"},
		"zeros":         {line(1, strings.Repeat("A", 43)), "zeros"},
		"twice":         {line(1, keyText) + line(1, keyText), "line 2"},
		"too many":      {five, "5 keys"},
		"too long":      {long, "bytes"},
		"corosync":      {string([]byte{1, 2, 0, 0xff}), "line 1"},
	} {
		_, err := Parse([]byte(c.text))
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "keygen") {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), keyText[:20]) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
}

func TestNothingPrintsTheKey(t *testing.T) {
	s := must(t, line(7, keyText))
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s)
	js, err := json.Marshal(map[string]any{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	hidden := struct{ s Secret }{s}
	text := fmt.Sprintf("%v|%+v|%#v|%s|%x|%q|%v|%+v|%#v|%s|%s", s, s, s, s, s, s, hidden, hidden, hidden, log.String(), js)
	raw := s.keys[0].bytes[:]
	for _, bad := range []string{keyText, fmt.Sprint(raw), fmt.Sprintf("%x", raw), fmt.Sprintf("%#v", raw), "0x1, 0x2, 0x3", "[0 1 2 3"} {
		if strings.Contains(text, bad) {
			t.Errorf("the key shows in %s", text)
		}
	}
	if !strings.Contains(text, "redacted") {
		t.Error(text)
	}
}

// What is derived is a contract between releases: nodes of two versions run
// together during an upgrade.
func TestDerivationIsStable(t *testing.T) {
	s := must(t, line(7, keyText))
	keys, err := s.ProbeKeys()
	if err != nil || len(keys) != 1 || keys[0].Epoch() != 7 {
		t.Fatal(keys, err)
	}
	k0, k1 := keys[0].Words()
	ca, _, err := s.keys[0].authority()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(ca.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%016x %016x\n%x\n%x\n", k0, k1, pub, ca.SubjectKeyId)
	want, err := os.ReadFile("testdata/derived.golden")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	other, err := must(t, line(8, keyText)).ProbeKeys()
	if o0, o1 := other[0].Words(); err != nil || o0 != k0 || o1 != k1 {
		t.Error("the key depends on its number")
	}
}

func TestCertificates(t *testing.T) {
	u := &url.URL{Scheme: "quorate", Host: "alpha", Path: "/node/1"}
	s := must(t, line(2, keyText))
	both := must(t, line(1, strings.Repeat("B", 42)+"A")+line(2, keyText))
	foreign, err := New()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := s.Leaf(u)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if leaf.URIs[0].String() != "quorate://alpha/node/1" || leaf.IsCA {
		t.Errorf("%v", leaf.URIs)
	}
	verify := func(by Secret, at time.Time) error {
		roots, err := by.Roots()
		if err != nil {
			t.Fatal(err)
		}
		_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at})
		return err
	}
	again := must(t, line(2, keyText)) // another node's reading of the same file
	for _, at := range []time.Time{time.Unix(1, 0), CheckTime(), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if err := errors.Join(verify(s, at), verify(again, at), verify(both, at)); err != nil {
			t.Errorf("at %v: %v", at, err)
		}
	}
	if verify(foreign, CheckTime()) == nil {
		t.Error("another secret believes it")
	}
	if _, err := (Secret{}).Leaf(u); err == nil || !(Secret{}).Empty() {
		t.Error("an empty secret signs")
	}
}

func TestWriteFileAndLoad(t *testing.T) {
	old := unix.Umask(0o777)
	path := filepath.Join(t.TempDir(), "quorate.key")
	err := WriteFile(path)
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if s, err := Load(path); err != nil || s.Empty() {
		t.Errorf("Load: %v", err)
	}
	before, _ := os.ReadFile(path)
	if err := WriteFile(path); !errors.Is(err, ErrExists) {
		t.Errorf("a second time: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file was touched")
	}
	if err := WriteFile(filepath.Join(path, "x")); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
	if err := SyncDir(filepath.Join(path, "x")); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a directory below a file: %v", err)
	}
}

// Before anything is installed there is no /etc/quorate yet.
func TestWriteFileMakesItsDirectory(t *testing.T) {
	etc := t.TempDir()
	path := filepath.Join(etc, "quorate", "quorate.key")
	old := unix.Umask(0o022)
	err := WriteFile(path)
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode() != os.ModeDir|0o755 {
		t.Errorf("%v, %v", info, err)
	}
	deep := filepath.Join(etc, "none", "quorate", "quorate.key")
	if err := WriteFile(deep); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "no directory "+filepath.Dir(deep)) {
		t.Errorf("two directories are missing: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		path string
		want error
		text string
	}{
		{filepath.Join(dir, "none"), ErrMissing, "quorate keygen -f " + filepath.Join(dir, "none") + "\" on one node"},
		{file("group", line(1, keyText), 0o640), ErrMode, "chmod 0600"},
		{file("other", line(1, keyText), 0o604), ErrMode, "chmod 0600"},
		{file("short", "quorate-key-1 1 AAAA\n", 0o600), ErrFormat, "32 bytes"},
		{file("long", line(1, keyText)+strings.Repeat("\n", 2*MaxFile), 0o600), ErrFormat, "at most"},
		{dir, ErrFormat, "regular"},
		{fifo, ErrFormat, "regular"},
	}
	if os.Geteuid() == 0 {
		owned := file("owned", line(1, keyText), 0o600)
		if err := os.Chown(owned, 12345, -1); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, struct {
			path string
			want error
			text string
		}{owned, ErrMode, "chown"})
	}
	for _, c := range cases {
		_, err := Load(c.path)
		var op *OpError
		if !errors.Is(err, c.want) || !errors.As(err, &op) || op.Path != c.path || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.path, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(line(1, keyText)))
	f.Add([]byte("# x\n" + line(4294967295, keyText) + line(1, keyText)))
	f.Add([]byte("quorate-key-1 1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrFormat) || len(err.Error()) > 400 {
				t.Errorf("%v", err)
			}
			return
		}
		again, err := Parse(s.text())
		if err != nil || string(again.text()) != string(s.text()) {
			t.Errorf("%q is read as %q: %v", s.text(), again.text(), err)
		}
	})
}
