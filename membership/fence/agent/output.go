package agent

import (
	"cmp"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

const (
	maxOutput  = 4 << 10
	maxCapture = 16 << 10 // more than is shown, so that the cut cannot leave half a secret in it
	maxCut     = 4 << 10  // is dropped at the front of what was cut
	redacted   = "***"
)

// secretKey are the options whose values are never shown.
var secretKey = regexp.MustCompile(`(?i)pass|secret|token|auth|community|(^|[_-])(api_?)?key$`)

// SecretOption says whether the value of an agent's option must never be shown.
func SecretOption(key string) bool { return secretKey.MatchString(key) }

// assignment finds secrets that an agent prints itself: password=x, passwd: x.
var assignment = regexp.MustCompile(`(?i)([a-z_-]*(?:passw|passwd|password|secret|token|auth|api_?key)[a-z_-]*)(["']?\s*[=:]\s*)("[^"\n]*"|'[^'\n]*'|[^\s,;&]+)`)

// header finds the line that HTTP libraries print when they are verbose.
var header = regexp.MustCompile(`(?im)((?:proxy-)?authorization["']?\s*:\s*)[^\n]*`)

// tail keeps the last max bytes written. Never an error: an agent that prints
// a megabyte must not stop for it.
type tail struct {
	max     int
	filling sync.Mutex

	mu  sync.Mutex
	buf []byte
	cut bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	if len(p) > t.max {
		p, t.cut = p[len(p)-t.max:], true
	}
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.max; over > 0 {
		t.buf, t.cut = append(t.buf[:0], t.buf[over:]...), true
	}
	return n, nil
}

// pipeful is how much a pipe holds that nobody has changed (pipe(7)).
const pipeful = 64 << 10

// fill takes what a pipe holds now, and no more: who writes may never end. It says
// whether to come again at once, when there is more, or not at all.
func (t *tail) fill(fd int) (more, end bool) {
	t.filling.Lock() // what is read before is written before
	defer t.filling.Unlock()
	var b [4096]byte
	for left := pipeful; left > 0; {
		n, err := unix.Read(fd, b[:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return false, false
		case n <= 0:
			return false, true
		default:
			left -= n
			_, _ = t.Write(b[:n]) // never an error
		}
	}
	return true, false
}

// follow takes what a pipe carries, to its end.
func (t *tail) follow(r *os.File) {
	c, err := r.SyscallConn()
	if err != nil {
		return
	}
	_ = c.Read(func(fd uintptr) bool {
		for {
			if more, end := t.fill(int(fd)); !more {
				return end // else wait for more
			}
		}
	})
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	buf := t.buf
	if t.cut {
		buf = buf[min(len(buf), maxCut):]
	}
	return append([]byte(nil), buf...)
}

// login are the options that name who has the password.
var login = regexp.MustCompile(`(?i)user|login`)

// secrets returns the values that must not be shown, the longest first. One that is too
// short to be found inside of what is in base64 is there as it is when it stands alone,
// and after each login of the device.
func secrets(options map[string]string) []string {
	var out []string
	for k, v := range options {
		if v = strings.ReplaceAll(v, "\r", ""); v == "" || !SecretOption(k) {
			continue
		}
		out = append(out, v)
		if len(v) >= leastCore {
			continue
		}
		if len(v) > 1 { // else it is any word of two letters
			out = append(out, encoded(v)...)
		}
		for who, user := range options {
			if login.MatchString(who) && !SecretOption(who) {
				out = append(out, encoded(user+":"+v)...)
			}
		}
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	return slices.Compact(out)
}

// clean makes output fit to be shown: secrets removed however they are encoded,
// printable, at most maxOutput bytes.
func clean(raw []byte, secrets []string) string {
	s := redact(strings.ReplaceAll(string(raw), "\r", ""), secrets)
	s = userinfo.ReplaceAllString(s, "${1}"+redacted+"@")
	s = header.ReplaceAllString(s, "${1}"+redacted)
	s = assignment.ReplaceAllString(s, "${1}${2}"+redacted)
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '.'
		}
		return r
	}, s)
	return tailString(s, maxOutput)
}

// tailString returns at most the last max bytes, beginning with a whole rune.
func tailString(s string, max int) string {
	if len(s) <= max {
		return s
	}
	s = s[len(s)-max:]
	for i := 0; i < len(s) && i < utf8.UTFMax; i++ {
		if utf8.RuneStart(s[i]) {
			return s[i:]
		}
	}
	return s
}

func lastLine(s string) string {
	s = strings.TrimRight(s, "\n")
	return s[strings.LastIndexByte(s, '\n')+1:]
}
