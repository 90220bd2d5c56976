package check

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Secrets in a file that others may read are a note, without what they are.
func TestSecretsThatOthersMayRead(t *testing.T) {
	literal := strings.Replace(text, "{ plug", "{ password = \"hunter2\", plug", 1)
	for _, s := range []struct {
		name, text string
		mode       os.FileMode
		want       bool
	}{
		{"readable", literal, 0o644, true},
		{"by a group", literal, 0o640, true},
		{"root's", literal, 0o600, false},
		{"without", text, 0o644, false},
		{"in a file", strings.Replace(text, "{ plug", "{ password_file = \"/etc/quorate/pw\", plug", 1), 0o644, false},
	} {
		path := filepath.Join(t.TempDir(), "quorate.toml")
		if err := os.WriteFile(path, []byte(s.text), s.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, s.mode); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if bad := good().machine(t).File(t.Context(), &out, path, ""); bad != 0 {
			t.Errorf("%s: %d things are wrong:\n%s", s.name, bad, out.String())
		}
		note := "--  " + path + " has secrets in it (password of fence_x for node alpha, password of fence_x for node beta), and others may use it (mode 0"
		if strings.Contains(out.String(), note) != s.want || strings.Contains(out.String(), "hunter2") {
			t.Errorf("%s:\n%s", s.name, out.String())
		}
	}
}
