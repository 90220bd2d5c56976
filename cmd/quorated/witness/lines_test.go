package witness

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

// A log that stands still holds up nobody; what had no room is counted.
func TestLinesNeverWait(t *testing.T) {
	r, w := io.Pipe() // takes nothing before somebody reads
	l := NewLines(w)
	const many = 3 * keepLines
	for i := range many {
		if n, err := fmt.Fprintf(l, "line %d\n", i); n == 0 || err != nil {
			t.Fatal(n, err)
		}
	}
	read := make(chan string)
	go func() {
		b, _ := io.ReadAll(r)
		read <- string(b)
	}()
	l.Close()
	_ = w.Close()
	got := <-read
	var missing int
	for line := range strings.Lines(got) {
		if _, err := fmt.Sscanf(line, "%d lines are missing above", &missing); err == nil {
			break
		}
	}
	if said := strings.Count(got, "\nline ") + 1; said < keepLines || said+missing != many {
		t.Errorf("%d lines, %d missing, of %d", said, missing, many)
	}
	if _, err := l.Write([]byte("x")); err == nil {
		t.Error("closed, and it takes lines")
	}
	l.Close()
}

func TestLines(t *testing.T) {
	var out bytes.Buffer
	l := NewLines(&out)
	for i := range 10 {
		fmt.Fprintf(l, "%d\n", i)
	}
	l.Close()
	if out.String() != "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n" {
		t.Errorf("%q", out.String())
	}
}
