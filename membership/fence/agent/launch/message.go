package launch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// The kinds of messages. The first two are requests.
const (
	kindStart   = "start"
	kindKill    = "kill"
	kindStarted = "started"
	kindKilled  = "killed"
	kindEnded   = "ended"
)

const (
	maxMessage = 64 << 10
	maxFiles   = 16
)

// Spec is a program to start.
type Spec struct {
	Path string
	Args []string // with the name of the program
	Env  []string
	Dir  string
	// PIDNamespace makes it the first process of a new one.
	PIDNamespace bool
	Nice         int
	// Before is when it is too late, in nanoseconds of CLOCK_BOOTTIME; 0: never.
	Before int64
}

// message is what goes over the socket, either way.
type message struct {
	Kind string
	ID   uint64
	Spec *Spec `json:",omitempty"` // start
	// Group, of kill, is not only for the program but for its process group.
	Group bool `json:",omitempty"`
	PID   int  `json:",omitempty"` // started, in the launcher's namespace
	// Errno, of ended, is why it was never started; Late: because it was too late.
	Errno  int    `json:",omitempty"`
	Late   bool   `json:",omitempty"`
	Status uint32 `json:",omitempty"` // ended: as of wait4(2)
}

var errMessage = errors.New("not a message of the launcher")

// encode refuses what would not arrive as it is.
func (m message) encode() ([]byte, error) {
	if s := m.Spec; s != nil {
		for _, t := range slices.Concat([]string{s.Path, s.Dir}, s.Args, s.Env) {
			if !utf8.ValidString(t) || strings.ContainsRune(t, 0) {
				return nil, fmt.Errorf("%w: %q cannot be given to a program", errMessage, t)
			}
		}
	}
	data, err := json.Marshal(m)
	if err == nil && len(data) > maxMessage {
		err = fmt.Errorf("%w: %d bytes are too many", errMessage, len(data))
	}
	return data, err
}

// parse reads a message that came with so many descriptors.
func parse(data []byte, files int) (m message, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return message{}, fmt.Errorf("%w: %w", errMessage, err)
	}
	if d.InputOffset() != int64(len(data)) {
		return message{}, fmt.Errorf("%w: it has an end after its end", errMessage)
	}
	ok := false
	switch m.Kind {
	case kindStart:
		ok = m.Spec.valid() && files >= 3 && files <= maxFiles
	case kindStarted: // with the process
		ok = m.Spec == nil && (files == 0 || files == 1)
	case kindKill, kindKilled, kindEnded:
		ok = m.Spec == nil && files == 0
	}
	if !ok || m.ID == 0 {
		return message{}, fmt.Errorf("%w: %s with %d descriptors", errMessage, m.Kind, files)
	}
	return m, nil
}

func (s *Spec) valid() bool {
	return s != nil && s.Path != "" && s.Dir != "" && len(s.Args) > 0 && s.Before >= 0 &&
		!slices.ContainsFunc(slices.Concat([]string{s.Path, s.Dir}, s.Args, s.Env), func(t string) bool { return strings.ContainsRune(t, 0) })
}

// buffer is where messages are received.
type buffer struct{ data, oob []byte }

func newBuffer() buffer {
	return buffer{make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*maxFiles))}
}

// receive takes one message. The descriptors are to be closed, be there an error or not.
func (b buffer) receive(socket int) (m message, files []int, err error) {
	n, nob, flags, _, err := unix.Recvmsg(socket, b.data, b.oob, unix.MSG_CMSG_CLOEXEC)
	for errors.Is(err, unix.EINTR) {
		n, nob, flags, _, err = unix.Recvmsg(socket, b.data, b.oob, unix.MSG_CMSG_CLOEXEC)
	}
	if err != nil {
		return m, nil, err
	}
	all, err := unix.ParseSocketControlMessage(b.oob[:nob])
	for i := range all {
		more, rerr := unix.ParseUnixRights(&all[i])
		files, err = append(files, more...), errors.Join(err, rerr)
	}
	switch {
	case err != nil:
	case n == 0:
		err = io.EOF
	case flags&unix.MSG_TRUNC != 0:
		err = fmt.Errorf("%w: it is too long", errMessage)
	default:
		m, err = parse(b.data[:n], len(files))
		if err == nil && flags&unix.MSG_CTRUNC != 0 && m.Kind != kindStarted { // which does without
			err = fmt.Errorf("%w: there are too many descriptors, or no room for them", errMessage)
		}
	}
	return m, files, err
}

func closeFiles(files []int) {
	for _, f := range files {
		_ = unix.Close(f)
	}
}
