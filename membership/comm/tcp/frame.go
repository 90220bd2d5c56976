package tcp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/quorate/quorate/membership"
)

// Versions. A daemon speaks one protocol; the feature level says what the code
// behind it knows and is only reported.
const (
	Protocol = 1
	Feature  = 2 // since 2: spares
)

const (
	frameHello   = 1
	frameRefuse  = 2
	frameReady   = 3
	frameMessage = 4
	frameUse     = 5 // on a spare, of the dialler: it is the pair's connection now
	frameAsk     = 6 // on a spare, of the listener: use it

	headerSize   = 5
	maxHandshake = 1024 // bytes of a frame before both are connected
	maxCluster   = 255
	helloSize    = 8 + 2 + 2 + 4 + 4 + 8 + 32 + 1
)

var helloMagic = [8]byte{'q', 'u', 'o', 'r', 'a', 't', 'e', 0}

// appendFrame appends a frame. Its body must fit the limit of its kind.
func appendFrame(b []byte, kind byte, body []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)+1))
	b = append(b, kind)
	return append(b, body...)
}

// readFrame reads one frame whose body is at most limit bytes. The body is the
// caller's to keep.
func readFrame(r *bufio.Reader, limit int) (kind byte, body []byte, err error) {
	head, err := r.Peek(headerSize)
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head)
	kind = head[4]
	if n == 0 || uint64(n) > uint64(limit)+1 {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes, 1 to %d are allowed here", ErrGarbage, n, limit+1)
	}
	_, _ = r.Discard(headerSize)
	body = make([]byte, n-1)
	if _, err := io.ReadFull(r, body); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return kind, body, nil
}

// hello is who a daemon says that it is. All integers are big endian:
//
//	 0  8 magic "quorate\0"
//	 8  2 protocol version
//	10  2 feature level
//	12  4 node id of the sender
//	16  4 node id that it means to talk to
//	20  8 instance of the sender's daemon
//	28 32 hash of the sender's configuration
//	60  1 length of the cluster's name, then the name
//	..  1 since feature level 2, of the dialler: 1 for a spare
//
// What follows is a later version's and is not looked at.
type hello struct {
	protocol, feature uint16
	from, to          membership.NodeID
	instance          uint64
	config            [32]byte
	cluster           string
	spare             bool
}

func (h hello) marshal() []byte {
	b := make([]byte, 0, helloSize+len(h.cluster))
	b = append(b, helloMagic[:]...)
	b = binary.BigEndian.AppendUint16(b, h.protocol)
	b = binary.BigEndian.AppendUint16(b, h.feature)
	b = binary.BigEndian.AppendUint32(b, uint32(h.from))
	b = binary.BigEndian.AppendUint32(b, uint32(h.to))
	b = binary.BigEndian.AppendUint64(b, h.instance)
	b = append(b, h.config[:]...)
	b = append(b, byte(len(h.cluster)))
	b = append(b, h.cluster...)
	if h.spare {
		b = append(b, 1)
	}
	return b
}

func parseHello(b []byte) (hello, error) {
	if len(b) < helloSize || [8]byte(b[:8]) != helloMagic {
		return hello{}, fmt.Errorf("%w: it is not a hello", ErrGarbage)
	}
	be := binary.BigEndian
	n := int(b[60])
	if len(b) < helloSize+n {
		return hello{}, fmt.Errorf("%w: a hello that is cut short", ErrGarbage)
	}
	rest := b[helloSize+n:]
	return hello{
		spare:    be.Uint16(b[10:]) >= spareFeature && len(rest) > 0 && rest[0] == 1,
		protocol: be.Uint16(b[8:]),
		feature:  be.Uint16(b[10:]),
		from:     membership.NodeID(be.Uint32(b[12:])),
		to:       membership.NodeID(be.Uint32(b[16:])),
		instance: be.Uint64(b[20:]),
		config:   [32]byte(b[28:60]),
		cluster:  string(b[helloSize : helloSize+n]),
	}, nil
}

// marshalRefusal makes the body of a refuse frame: code, then words.
func marshalRefusal(e *RefusedError) []byte {
	text := e.Text
	if len(text) > 512 {
		text = text[:512]
	}
	return append([]byte{codeOf(e.Reason)}, text...)
}

func parseRefusal(b []byte) *RefusedError {
	if len(b) == 0 {
		return &RefusedError{Remote: true, Reason: ErrGarbage, Text: "no reason given"}
	}
	return &RefusedError{Remote: true, Reason: reasonOf(b[0]), Text: printable(string(b[1:]))}
}

// printable keeps a peer's words on one line of a log.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
