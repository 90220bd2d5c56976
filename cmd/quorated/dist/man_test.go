package dist

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
)

func pages(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "man")
	set := flag.NewFlagSet("quorated", flag.ContinueOnError)
	set.String("some-file", "/etc/x", "a `file`")
	set.Bool("loud", false, "it's .loud")
	if err := WritePages(dir, set, time.Date(2031, 2, 3, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPages(t *testing.T) {
	dir := pages(t)
	for name, want := range map[string][]string{
		"quorated.8":     {`.TH "QUORATED" "8" "Feb 2031"`, ".TP\n\\fB\\-some\\-file\\fR \\fIfile\\fR\na file (/etc/x)\n", ".TP\n\\fB\\-loud\\fR \\fI\\fR\nit\\(aqs .loud\n"},
		"quorate.toml.5": {`.TH "QUORATE.TOML" "5" "Feb 2031"`},
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(string(text), w) {
				t.Errorf("%s has no %q:\n%s", name, w, text)
			}
		}
	}
}

// TestPagesAreReadable has them set: every line of the reference is there as it is.
func TestPagesAreReadable(t *testing.T) {
	if _, err := exec.LookPath("groff"); err != nil {
		t.Skip("groff is not installed")
	}
	dir := pages(t)
	for _, name := range []string{"quorated.8", "quorate.toml.5"} {
		var out, errs bytes.Buffer
		c := exec.Command("groff", "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=120n", "-rIN=0n", filepath.Join(dir, name))
		c.Stdout, c.Stderr = &out, &errs
		if err := c.Run(); err != nil || errs.Len() > 0 {
			t.Errorf("%s: %v\n%s", name, err, errs.String())
		}
		if name != "quorate.toml.5" {
			continue
		}
		for l := range strings.Lines(strings.ReplaceAll(Reference, docsAt, config.DocDir)) {
			if !strings.Contains(out.String(), strings.TrimRight(l, "\n")) {
				t.Errorf("%q is not in the page", l)
			}
		}
	}
}

func TestBuildDate(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "86400")
	if got := BuildDate(); !got.Equal(time.Unix(86400, 0)) {
		t.Error(got)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "")
	if got := BuildDate(); time.Since(got) > time.Minute {
		t.Error(got)
	}
}
