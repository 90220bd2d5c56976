package witness

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrToken is a token that cannot be used; the text says why, and what to do.
var ErrToken = errors.New("not a token of a witness")

const (
	tokenPrefix = "qw1-"
	secretSize  = 24
	sumSize     = 4
	tokenFixed  = sha256.Size + secretSize + 8
	maxAddr     = 300
	maxToken    = 1024
)

// Token is the one line that introduces a cluster to a witness. It holds a secret,
// which is good for one enrolment.
type Token struct {
	Addr        string            // host:port, as the nodes dial it
	Fingerprint [sha256.Size]byte // of the witness's certificate
	Expires     time.Time         // to the second

	secret [secretSize]byte
}

// NewToken makes a token with a fresh secret.
func NewToken(addr string, fingerprint [sha256.Size]byte, expires time.Time) Token {
	t := Token{Addr: addr, Fingerprint: fingerprint, Expires: time.Unix(expires.Unix(), 0)}
	_, _ = rand.Read(t.secret[:]) // never fails (crypto/rand)
	return t
}

// Reveal is the line itself.
func (t Token) Reveal() string {
	b := append(t.Fingerprint[:len(t.Fingerprint):len(t.Fingerprint)], t.secret[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Expires.Unix()))
	b = append(b, t.Addr...)
	sum := sha256.Sum256(b)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(b, sum[:sumSize]...))
}

// String says what it is for, without the secret.
func (t Token) String() string {
	return fmt.Sprintf("token of the witness at %s, good until %s", t.Addr, t.Expires.UTC().Format(time.RFC3339))
}

// GoString is String: a token must not get into a log by %#v either.
func (t Token) GoString() string { return t.String() }

// Digest is what a witness keeps of the secret.
func (t Token) Digest() string { return digest(t.secret[:]) }

func digest(secret []byte) string {
	sum := sha256.Sum256(append([]byte("quorate witness token\x00"), secret...))
	return hex.EncodeToString(sum[:])
}

// ParseToken reads a token; every error is an ErrToken and does not repeat it.
func ParseToken(line string) (Token, error) {
	line = strings.TrimSpace(line)
	bad := func(why string) (Token, error) {
		return Token{}, fmt.Errorf("%w: %s; copy the whole line that `quorated --witness token` printed, or make another", ErrToken, why)
	}
	rest, ok := strings.CutPrefix(line, tokenPrefix)
	if !ok || len(line) > maxToken {
		return bad("it does not begin with " + tokenPrefix)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil || len(b) <= tokenFixed+sumSize {
		return bad("it is cut short, or has a wrong letter")
	}
	body, sum := b[:len(b)-sumSize], b[len(b)-sumSize:]
	if want := sha256.Sum256(body); subtle.ConstantTimeCompare(sum, want[:sumSize]) != 1 {
		return bad("it is cut short, or has a wrong letter")
	}
	t := Token{Fingerprint: [sha256.Size]byte(body), Addr: string(body[tokenFixed:])}
	copy(t.secret[:], body[sha256.Size:])
	at := binary.BigEndian.Uint64(body[tokenFixed-8:])
	if at > 1<<40 || len(t.Addr) > maxAddr || strings.ContainsFunc(t.Addr, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return bad("it makes no sense")
	}
	t.Expires = time.Unix(int64(at), 0)
	return t, nil
}
