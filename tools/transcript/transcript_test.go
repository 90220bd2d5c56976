package transcript

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// What is written while a program's errors are copied is kept.
func TestBufferKeepsWhatAProgramDoesNotSay(t *testing.T) {
	var b Buffer
	c := exec.Command("/bin/sh", "-c", "read line; echo an error >&2")
	c.Stderr = &b
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&b, "a word")
	_, _ = in.Write([]byte("\n"))
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); !strings.Contains(got, "a word\n") || !strings.Contains(got, "an error\n") {
		t.Errorf("%q", got)
	}
}
