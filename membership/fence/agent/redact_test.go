package agent

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// encodings are those in which an agent may print a secret.
var encodings = []struct {
	name   string
	encode func(string) string
}{
	{"as it is", func(s string) string { return s }},
	{"query", url.QueryEscape},
	{"query, small digits", func(s string) string { return small(url.QueryEscape(s)) }},
	{"path", url.PathEscape},
	{"path, small digits", func(s string) string { return small(url.PathEscape(s)) }},
	{"query twice", func(s string) string { return url.QueryEscape(url.QueryEscape(s)) }},
	{"every byte for a URL", func(s string) string { return every(s, "%%%02x") }},
	{"URL with user", func(s string) string {
		return (&url.URL{Scheme: "https", User: url.UserPassword("admin", s), Host: "bmc"}).String()
	}},
	{"JSON", func(s string) string { b, _ := json.Marshal(s); return string(b[1 : len(b)-1]) }},
	{"JSON in JSON", func(s string) string {
		b, _ := json.Marshal(s)
		b, _ = json.Marshal(string(b))
		return string(b[3 : len(b)-3])
	}},
	{"JSON in ASCII", func(s string) string { q := strconv.QuoteToASCII(s); return q[1 : len(q)-1] }},
	{"Go or Python", func(s string) string { return strconv.Quote(s) }},
	{"C", func(s string) string { return every(s, `\x%02x`) }},
	{"octal", func(s string) string { return every(s, `\%03o`) }},
	{"shell", func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }},
	{"Python's shell", func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'" }},
	{"printf %q", func(s string) string {
		var out strings.Builder
		for _, r := range s {
			if strings.ContainsRune(" !\"#$&'()*,;<>?[\\]^`{|}~", r) {
				out.WriteByte('\\')
			}
			out.WriteRune(r)
		}
		return out.String()
	}},
	{"SQL", func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }},
	{"XML", func(s string) string { var b strings.Builder; _ = xml.EscapeText(&b, []byte(s)); return b.String() }},
	{"HTML", html.EscapeString},
	{"HTML twice", func(s string) string { return html.EscapeString(html.EscapeString(s)) }},
	{"every letter for HTML", func(s string) string {
		var out strings.Builder
		for _, r := range s {
			fmt.Fprintf(&out, "&#x%x;", r)
		}
		return out.String()
	}},
	{"base64", func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }},
	{"base64 for URLs", func(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) }},
	{"base64, not padded", func(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) }},
	{"base64 for URLs, not padded", func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }},
	{"base64 with user", func(s string) string { return base64.StdEncoding.EncodeToString([]byte("admin:" + s)) }},
	{"base64 with user, for URLs", func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte("root:" + s)) }},
	{"base64 with user, in a query", func(s string) string {
		return url.QueryEscape(base64.StdEncoding.EncodeToString([]byte("x:" + s + "\n")))
	}},
	{"hex", func(s string) string { return hex.EncodeToString([]byte(s)) }},
	{"hex, large", func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) }},
}

// small makes the digits after a % small.
func small(s string) string {
	b := []byte(s)
	for i := range b {
		if i >= 1 && b[i-1] == '%' || i >= 2 && b[i-2] == '%' {
			b[i] = []byte(strings.ToLower(string(b[i : i+1])))[0]
		}
	}
	return string(b)
}

func every(s, format string) string {
	var out strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&out, format, s[i])
	}
	return out.String()
}

// unlike is a letter that is not in s: of a letter of the secret beside it the redaction may take
// more than was encoded (">>>>" before a ">").
func unlike(s string) string {
	letter := '─'
	for strings.ContainsRune(s, letter) {
		letter++
	}
	return string(letter)
}

// alone: no part of an encoded secret is left over, wherever it stands.
func alone(t *testing.T, name, secret, text string) {
	t.Helper()
	options := map[string]string{"password": secret, "login": "admin", "username": "root"}
	mark := unlike(secret + text)
	before, after := "== cannot log in: "+mark, mark+" after 3 s =="
	got := clean([]byte(before+text+after), secrets(options))
	left, ok := strings.CutPrefix(got, before)
	left, ok2 := strings.CutSuffix(left, after)
	for _, s := range []string{redacted, "https://admin:", "@bmc", "bmc", `'`, `"`} {
		left = strings.ReplaceAll(left, s, "")
	}
	if !ok || !ok2 || left != "" {
		t.Errorf("%s of %.80q: %.200q became %.200q", name, secret, text, got)
	}
}

func TestNoEncodingOfASecretSurvives(t *testing.T) {
	for _, secret := range []string{
		"p@ss/w0rd&1", "hunter2hunter2", "a b+c=d?e", `it's "quoted" \n\`, "<größe>&€", "käse🔥%41", "100%25%2525", "p:w;#!$`|*~^{}[]()", "\u2028,\u00a0x\u007f",
		strings.Repeat("Aa0/", 250), strings.Repeat("ö", 400), strings.Repeat("z", 4000), "PassWord",
	} {
		for _, e := range encodings {
			if len(e.encode(secret)) < maxOutput-100 {
				alone(t, e.name, secret, e.encode(secret))
			}
		}
	}
}

// TestShortSecrets: they are found wherever they stand as they are, and in base64 alone or after
// a login of the device.
func TestShortSecrets(t *testing.T) {
	options := map[string]string{"passwd": "k&7", "login": "admin", "pin_token": "q"}
	for text, want := range map[string]string{
		"x k&7 y": "x *** y", "x=k%267": "x=***", "k&amp;7": "***", "seq": "se***",
		base64.StdEncoding.EncodeToString([]byte("k&7")):       redacted,
		base64.StdEncoding.EncodeToString([]byte("admin:k&7")): redacted,
		base64.StdEncoding.EncodeToString([]byte("admin:q")):   redacted,
	} {
		if got := clean([]byte(text), secrets(options)); got != want {
			t.Errorf("%q became %q, not %q", text, got, want)
		}
	}
}

func TestURLsLoseTheirPasswords(t *testing.T) {
	for text, want := range map[string]string{
		"GET https://admin:p%40ss%2Fw0rd%261@bmc/redfish": "GET https://admin:***@bmc/redfish",
		"amqps+x://u@example.org:p@ss@h:1/ b@c":           "amqps+x://u@example.org:***@h:1/ b@c",
		"ldap://:x@h":                                     "ldap://:***@h",
		"http://h:80/a and mail@example.org":              "http://h:80/a and mail@example.org",
		"ssh://root@[fe80::1]:22":                         "ssh://root@[fe80::1]:22",
		`{"at":"http://h:80/","mail":"a@b"}`:              `{"at":"http://h:80/","mail":"a@b"}`,
	} {
		if got := clean([]byte(text), nil); got != want {
			t.Errorf("%q became %q, not %q", text, got, want)
		}
	}
}

// TestCutSecrets: of output that was cut in the middle of a secret no part of that is kept.
func TestCutSecrets(t *testing.T) {
	secret := strings.Repeat("0Ä#s", 300)
	for _, e := range encodings {
		out := &tail{max: maxCapture}
		for range 20 {
			_, _ = out.Write([]byte(e.encode(secret)))
		}
		if got := clean(out.bytes(), secrets(map[string]string{"password": secret})); len(got) > 2000 || strings.Contains(got, e.encode("#s0Ä")) {
			t.Errorf("%s: %d bytes: %.100q", e.name, len(got), got)
		}
	}
}

func FuzzNoEncodingOfASecretSurvives(f *testing.F) {
	for i := range encodings {
		f.Add("p@ss/w0rd&1", uint8(i))
		f.Add("käse'🔥\"\\%25", uint8(i))
	}
	f.Fuzz(func(t *testing.T, secret string, which uint8) {
		e := encodings[int(which)%len(encodings)]
		text := e.encode(secret)
		odd := func(r rune) bool { return r < 32 || r == 0x7f } // what no file of a secret, and no configuration, has
		if len(secret) < leastCore || len(text) > maxOutput-100 || !utf8.ValidString(secret) || strings.ContainsFunc(secret, odd) {
			return
		}
		alone(t, e.name, secret, text)
	})
}

func BenchmarkClean(b *testing.B) {
	raw := []byte(strings.Repeat("2026-03-01 00:05:00,123 DEBUG: Sending: {\"password\": \"x\"} https://bmc/redfish/v1\n", maxCapture/80))
	s := secrets(map[string]string{"password": "p@ss/w0rd&1", "login": "admin"})
	for b.Loop() {
		clean(raw, s)
	}
}
