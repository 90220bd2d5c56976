package witness

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTokenComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var print [32]byte
		copy(print[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "print"))
		addr := rapid.StringMatching(`[a-z0-9.\[\]:-]{3,200}`).Draw(t, "addr")
		at := time.Unix(rapid.Int64Range(0, 1<<39).Draw(t, "at"), 0)
		a := NewToken(addr, print, at)
		b, err := ParseToken("  " + a.Reveal() + "\n")
		if err != nil || b != a || b.Digest() != a.Digest() {
			t.Fatalf("%v, %v", b, err)
		}
		if c := NewToken(addr, print, at); c.Digest() == a.Digest() {
			t.Fatal("the same secret twice")
		}
	})
}

// Every letter of a token counts: one that was cut short or miscopied is no other.
func TestTokenThatWasMiscopied(t *testing.T) {
	line := NewToken("w.example:21062", [32]byte{1, 2, 3}, time.Unix(1e9, 0)).Reveal()
	for i := range line {
		if tok, err := ParseToken(line[:i]); !errors.Is(err, ErrToken) {
			t.Errorf("the first %d letters: %v, %v", i, tok, err)
		}
		for _, x := range "A_z" {
			if other := line[:i] + string(x) + line[i+1:]; other != line {
				if tok, err := ParseToken(other); err == nil {
					t.Errorf("with %c at %d it is %v", x, i, tok)
				} else if strings.Contains(err.Error(), line[8:40]) {
					t.Error("the error repeats it")
				}
			}
		}
	}
}

// However a token is printed, its secret is not.
func TestTokenIsNotPrinted(t *testing.T) {
	tok := NewToken("w:1", [32]byte{}, time.Unix(1e9, 0))
	for _, text := range []string{tok.String(), fmt.Sprint(tok), fmt.Sprintf("%+v", tok), fmt.Sprintf("%#v", tok), slog.AnyValue(tok).String()} {
		if strings.Contains(text, fmt.Sprint(tok.secret[:4])[1:8]) || strings.Contains(text, "qw1-") || !strings.Contains(text, "w:1") {
			t.Errorf("printed: %s", text)
		}
	}
	if strings.Contains(tok.Digest(), fmt.Sprintf("%x", tok.secret[:8])) {
		t.Error("the digest is the secret")
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(NewToken("w.example:21062", [32]byte{1}, time.Unix(1e9, 0)).Reveal())
	f.Add("qw1-")
	f.Fuzz(func(t *testing.T, line string) {
		tok, err := ParseToken(line)
		if err != nil {
			return
		}
		if again, err := ParseToken(tok.Reveal()); err != nil || again != tok {
			t.Errorf("%v is %v, %v", tok, again, err)
		}
	})
}
