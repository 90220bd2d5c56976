package control

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The process at the other end of the socket: it runs, and when it has ended that is seen.
func TestProcess(t *testing.T) {
	r := start(t, &handler{}, nil)
	c, err := Dial(r.path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Process()
	if err != nil {
		t.Fatal(err)
	}
	if int(p.pid) != os.Getpid() {
		t.Errorf("process %d listens, not %d", p.pid, os.Getpid())
	}
	if err := p.WaitEnd(t.Context(), 20*time.Millisecond); err == nil || !strings.Contains(err.Error(), "has not ended within 20ms") {
		t.Errorf("of a process that runs: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.WaitEnd(gone, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("of one who gave up: %v", err)
	}
	if err := errors.Join(p.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	if _, err := c.Process(); err == nil {
		t.Error("of a used client")
	}
}

func TestProcessThatEnds(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := openProcess(int32(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.WaitEnd(t.Context(), 30*time.Second); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // killed
}
