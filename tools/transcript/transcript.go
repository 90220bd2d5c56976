// Package transcript keeps what several goroutines write, to be read meanwhile.
package transcript

import (
	"bytes"
	"sync"
)

// Buffer is a bytes.Buffer for several writers at a time. It has no ReadFrom, with which
// os/exec would have a bytes.Buffer read a program's errors by itself: at their end that
// forgets what else was written meanwhile. The zero value is empty.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer; it does not fail.
func (t *Buffer) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

// String is all that was written until now.
func (t *Buffer) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
