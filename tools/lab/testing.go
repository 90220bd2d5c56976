package lab

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"time"
)

// EnvGate is the environment variable that must be 1 for ForTest to make a lab.
const EnvGate = "QUORATE_LAB"

// EnvKeep names a folder where ForTest puts the console logs of a failed test.
const EnvKeep = "QUORATE_LAB_KEEP"

// TB is what ForTest needs of testing.TB.
type TB interface {
	Helper()
	Cleanup(func())
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Failed() bool
	Logf(format string, args ...any)
	Skipf(format string, args ...any)
	Name() string
}

// ForTest makes a lab, boots its nodes, and takes everything down when the test
// ends, failed or not. A failed test gets the end of each console in its log. It
// skips the test unless QUORATE_LAB=1.
func ForTest(t TB, cfg Config) *Lab {
	t.Helper()
	if os.Getenv(EnvGate) != "1" {
		t.Skipf("%s is not 1: this test boots real kernels, as root", EnvGate)
	}
	if cfg.Log == nil {
		cfg.Log = testLog{t}
	}
	l, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			l.report(t)
		}
		if err := l.Close(); err != nil {
			t.Errorf("lab: close: %v", err)
		}
	})
	if err := l.Up(t.Context()); err != nil {
		t.Fatalf("lab: %v", err)
	}
	return l
}

func (l *Lab) report(t TB) {
	keep := os.Getenv(EnvKeep)
	for _, n := range l.nodes {
		t.Logf("%s is %s; end of its console:\n%s", n.Name(), n.State(), n.ConsoleTail(30))
		if keep == "" {
			continue
		}
		to := filepath.Join(keep, filepath.Base(t.Name())+"-"+time.Now().Format("150405")+"-"+n.Name()+".log")
		if err := copyFile(n.ConsoleLog(), to); err != nil {
			t.Logf("keep console: %v", err)
		}
	}
}

// testLog passes progress to the test's log.
type testLog struct{ t TB }

func (w testLog) Write(p []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSuffix(p, []byte("\n")))
	return len(p), nil
}
