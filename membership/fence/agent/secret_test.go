package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/quorate/quorate/membership/fence/fencetest"
)

func TestSecretFile(t *testing.T) {
	for key, want := range map[string]string{"password_file": "password", "passwd_file": "passwd", "api_key_file": "api_key", "token_file": "token"} {
		if got, ok := SecretFile(key); !ok || got != want {
			t.Errorf("%s: %q %v", key, got, ok)
		}
	}
	for _, key := range []string{"password", "password_script", "identity_file", "_file", "file"} {
		if got, ok := SecretFile(key); ok {
			t.Errorf("%s is taken for the file of %q", key, got)
		}
	}
}

func secretAt(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

func TestReadSecret(t *testing.T) {
	if got, err := readSecret(secretAt(t, "hunter2\n", 0o600)); got != "hunter2" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	if got, err := readSecret(secretAt(t, " a b ", 0o400)); got != " a b " || err != nil {
		t.Errorf("%q %v", got, err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	others := secretAt(t, "hunter2", 0o600)
	if os.Geteuid() == 0 {
		if err := os.Chown(others, 12345, 12345); err != nil {
			t.Fatal(err)
		}
	} else {
		others = "/etc/shadow" // cannot even be read
	}
	for path, want := range map[string]string{
		filepath.Join(t.TempDir(), "none"):       "no such file",
		t.TempDir():                              "regular file",
		fifo:                                     "regular file",
		others:                                   others,
		secretAt(t, "hunter2", 0o640):            "chmod 0600",
		secretAt(t, "hunter2", 0o604):            "mode 0604",
		secretAt(t, "", 0o600):                   "empty",
		secretAt(t, "\n", 0o600):                 "empty",
		secretAt(t, "hunter2\nhunter3\n", 0o600): "more than one line",
		secretAt(t, "hunter2\x00", 0o600):        "more than one line",
		secretAt(t, strings.Repeat("hunter2", 999), 0o600): "larger than 4096",
	} {
		_, err := readSecret(path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

func FuzzParseSecret(f *testing.F) {
	for _, s := range []string{"", "\n", "a\n", "a\r\n", "a\nb", "\x00", strings.Repeat("x", MaxSecret+1)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseSecret(text)
		if err == nil && (s == "" || len(s) > MaxSecret || strings.ContainsAny(s, "\n\r\x00") || !strings.HasPrefix(string(text), s)) {
			t.Errorf("%q from %q", s, text)
		}
		if len(text) > 40 && err != nil && strings.Contains(err.Error(), string(text)) {
			t.Errorf("the error repeats it: %v", err)
		}
	})
}

// TestSecretFromAFile: the agent is given what the file says when it is started, and nobody else sees it.
func TestSecretFromAFile(t *testing.T) {
	lab := fencetest.NewLab(t)
	path := secretAt(t, "first-one", 0o600)
	d := lab.Device("a", "secret")
	d.Options["password_file"] = path
	f := mk(lab.Dir, d).(*Fencer)
	for _, value := range []string{"first-one", "second-one"} {
		if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		res := f.Fence(t.Context(), soon())
		if !res.OK || !strings.Contains(res.Output, "login with ***") || strings.Contains(res.Output, "-one") || strings.Contains(res.Output, "unknown option") {
			t.Errorf("%+v", res)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	asked := len(lab.Log())
	res := f.Fence(t.Context(), soon())
	if res.OK || !strings.Contains(res.Err, path) || !strings.Contains(res.Err, "chmod 0600") || strings.Contains(res.Err, "-one") || len(lab.Log()) != asked {
		t.Errorf("%+v, asked %v", res, lab.Log())
	}
	if err := f.Monitor(t.Context(), 1); !errors.Is(err, ErrSecret) {
		t.Errorf("%v", err)
	}
}
