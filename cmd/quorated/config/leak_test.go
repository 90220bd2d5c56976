package config

import (
	"strings"
	"testing"
)

// A password that was written without its quotes, or as a number, is not repeated by what
// is said of it: that is for everybody who may look, and for the journal.
func TestFaultsRepeatNoValue(t *testing.T) {
	for _, secret := range []string{
		"swordfish", "0123456", "1__2345678", "99999999999999999999", "2020-13-45", "12.34.56", "+0x12345", "1e", "1_000._5", "0x12345zz", "0b10102", "12:99:99", "07:32",
		`"\u12secret"`, `"a\xZZsecret"`, `["swordfish`, "{swordfish", "'swordfish", "swordfish = 1", "1979-05-27T", ".5678", "5678.", "99999999999999999999.5e999",
	} {
		text := two + "[[fence]]\nnodes = [\"alpha\", \"beta\"]\nagent = \"fence_x\"\noptions = { ip = \"x\", password = " + secret + " }\n"
		_, err := Parse("quorate.toml", []byte(text))
		if err == nil {
			t.Errorf("%s: taken", secret)
			continue
		}
		said := strings.ReplaceAll(err.Error(), likeThis, "")
		for i := range len(secret) - 3 {
			if part := secret[i : i+4]; strings.Contains(said, part) {
				t.Errorf("%s: %q is in %s", secret, part, said)
				break
			}
		}
	}
}
