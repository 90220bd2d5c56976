package agent

import (
	"encoding/base64"
	"encoding/hex"
	"html"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	pieceLen  = 64 // a long secret is looked for in pieces of so many bytes, at most twice as many in the last
	leastCore = 4  // a secret as long or longer is looked for inside of what is in base64 or hex
	maxSlash  = 7  // JSON in JSON in JSON
	maxEntity = 12 // with & and ;
)

// userinfo finds the password of a URL.
var userinfo = regexp.MustCompile(`(://[^\s/:"'<>]*:)[^\s"'<>]*@`)

// redact replaces every place where a secret is, in whatever way it is written: as it
// is, escaped for a URL, JSON, a shell, C, XML or HTML, wholly or in parts, or in base64
// or hex, alone or between other text. What is found may overlap.
func redact(s string, secrets []string) string {
	var spans []span
	for _, secret := range secrets {
		for _, p := range pieces(secret) {
			spans = find(spans, s, p)
			for _, core := range cores(p) {
				spans = findRun(spans, s, core)
			}
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	var out strings.Builder
	end := 0
	for i := 0; i < len(spans); {
		x := spans[i]
		for i++; i < len(spans) && spans[i].from <= x.to; i++ {
			x.to = max(x.to, spans[i].to)
		}
		out.WriteString(s[end:x.from])
		out.WriteString(redacted)
		end = x.to
	}
	out.WriteString(s[end:])
	return out.String()
}

type span struct{ from, to int }

// pieces cuts a long secret, between two runes: what it costs to look for it stays small,
// and whatever its encoding, a piece of it is shorter than what is dropped of cut output.
func pieces(secret string) (out []string) {
	for len(secret) > 2*pieceLen {
		at := pieceLen
		for at < pieceLen+utf8.UTFMax && !utf8.RuneStart(secret[at]) {
			at++
		}
		if p := secret[:at]; !slices.Contains(out, p) {
			out = append(out, p)
		}
		secret = secret[at:]
	}
	return append(out, secret)
}

// cores are the characters that are in base64 and hex of any text with the secret in it.
func cores(secret string) (out []string) {
	if len(secret) < leastCore {
		return nil
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 { // bytes in its first group of three that are not the secret's
			text := enc.EncodeToString(append(make([]byte, before), secret...))
			text = text[(before*8+5)/6 : (before+len(secret))*8/6] // without those that others share
			if !slices.Contains(out, text) {
				out = append(out, text)
			}
		}
	}
	h := hex.EncodeToString([]byte(secret))
	return append(out, h, strings.ToUpper(h))
}

// encoded are the base64 forms of a text alone, of which short ones are not looked for inside of others.
func encoded(text string) (out []string) {
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
		out = append(out, enc.EncodeToString([]byte(text)))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// find adds where a secret is.
func find(spans []span, s, secret string) []span {
	var cur, next []int
	for i := range len(s) {
		if s[i] != secret[0] && !escapes(s[i]) {
			continue
		}
		cur = append(cur[:0], i)
		for rest := secret; rest != "" && len(cur) > 0; {
			_, size := utf8.DecodeRuneInString(rest)
			char := rest[:size]
			rest = rest[size:]
			if at := cur[0]; len(cur) == 1 && at < len(s) && !escapes(s[at]) { // as most are
				if cur[0] = at + size; !strings.HasPrefix(s[at:], char) {
					cur = cur[:0]
				}
				continue
			}
			next = next[:0]
			for _, at := range cur {
				next = ends(next, s, at, char)
			}
			slices.Sort(next)
			cur, next = slices.Compact(next), cur
		}
		if len(cur) > 0 {
			spans = append(spans, span{i, cur[len(cur)-1]})
		}
	}
	return spans
}

// escapes: a character may be the first of one that is written in another way.
func escapes(c byte) bool {
	switch c {
	case '\\', '%', '&', '+', '\'', '"', '=':
		return true
	}
	return false
}

// findRun adds the whole words around the places of a core.
func findRun(spans []span, s, core string) []span {
	end := 0
	for _, x := range find(nil, s, core) {
		if x.to <= end {
			continue // of the same word
		}
		for x.from > end && inRun(s[x.from-1]) {
			x.from--
		}
		for x.to < len(s) && inRun(s[x.to]) {
			x.to++
		}
		spans, end = append(spans, x), x.to
	}
	return spans
}

// inRun: a character of base64, or of what it is escaped with.
func inRun(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '+' || c == '/' || c == '-' || c == '_' || c == '=' || c == '%'
}

// ends adds where a text that begins at i and stands for a character ends, in every way
// that it may be read.
func ends(out []int, s string, i int, char string) []int {
	if i >= len(s) {
		return out
	}
	slashes := i
	for ; ; slashes++ {
		if strings.HasPrefix(s[slashes:], char) {
			out = append(out, slashes+len(char))
		}
		if slashes == len(s) || s[slashes] != '\\' || slashes-i == maxSlash {
			break
		}
	}
	if slashes > i {
		out = slashed(out, s, slashes, char)
	}
	for _, q := range quoted[char] {
		if strings.HasPrefix(s[i:], q) {
			out = append(out, i+len(q))
		}
	}
	switch s[i] {
	case '&':
		out = entity(out, s, i, char)
	case '%':
		if r, ok := number(s, i+2, 4, 16); ok && s[i+1]|0x20 == 'u' && string(r) == char {
			out = append(out, i+6)
		}
	}
	if len(char) == 1 {
		return byteEnds(out, s, i, char[0])
	}
	at := []int{i}
	for k := range len(char) {
		var next []int
		for _, x := range at {
			next = byteEnds(next, s, x, char[k])
		}
		at = next
	}
	return append(out, at...)
}

// quoted are ways to write a character in a string of a shell or of SQL, and in a query.
var quoted = map[string][]string{
	`'`: {`'\''`, `'"'"'`, `''`},
	`"`: {`"'"'"`, `""`},
	" ": {"+", "%2B", "%2b"},
}

var letters = map[string]string{"a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

// slashed adds the ends of what stands for a character after backslashes.
func slashed(out []int, s string, at int, char string) []int {
	if at >= len(s) {
		return out
	}
	if l := letters[s[at:at+1]]; l == char {
		out = append(out, at+1)
	}
	switch s[at] {
	case 'u':
		r, ok := number(s, at+1, 4, 16)
		if !ok {
			break
		}
		end := at + 5
		if utf16.IsSurrogate(r) {
			low := end
			for low < len(s) && s[low] == '\\' {
				low++
			}
			if l, ok := number(s, low+1, 4, 16); ok && s[low] == 'u' {
				r, end = utf16.DecodeRune(r, l), low+5
			}
		}
		if string(r) == char {
			out = append(out, end)
		}
	case 'U':
		if r, ok := number(s, at+1, 8, 16); ok && string(r) == char {
			out = append(out, at+9)
		}
	}
	return out
}

// entity adds the end of an entity of XML or HTML, also of an escaped one.
func entity(out []int, s string, i int, char string) []int {
	at := i + 1
	for {
		end := strings.IndexByte(s[at:min(len(s), at+maxEntity)], ';')
		if end < 0 {
			return out
		}
		if html.UnescapeString("&"+s[at:at+end+1]) == char {
			out = append(out, at+end+1)
		}
		if s[at:at+end+1] != "amp;" {
			return out
		}
		at += end + 1
	}
}

// byteEnds adds the ends of a byte that is written as it is, as %40, %2540, =40, \x40 or \100.
func byteEnds(out []int, s string, at int, b byte) []int {
	if at >= len(s) {
		return out
	}
	if s[at] == b {
		out = append(out, at+1)
	}
	hexAt := func(i int) bool { r, ok := number(s, i, 2, 16); return ok && byte(r) == b }
	switch i := at + 1; s[at] {
	case '%':
		for ; ; i += 2 {
			if hexAt(i) {
				out = append(out, i+2)
			}
			if i > len(s) || !strings.HasPrefix(s[i:], "25") {
				return out
			}
		}
	case '=':
		if hexAt(i) {
			out = append(out, i+2)
		}
	case '\\':
		for i < len(s) && s[i] == '\\' {
			i++
		}
		if r, ok := number(s, i, 3, 8); ok && byte(r) == b {
			out = append(out, i+3)
		} else if i < len(s) && s[i] == 'x' && hexAt(i+1) {
			out = append(out, i+3)
		}
	}
	return out
}

// number reads so many digits.
func number(s string, at, digits, base int) (rune, bool) {
	if at < 0 || digits == 0 || at+digits > len(s) || s[at] == '+' || s[at] == '-' {
		return 0, false
	}
	n, err := strconv.ParseUint(s[at:at+digits], base, 32)
	return rune(n), err == nil
}
