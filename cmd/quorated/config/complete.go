package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quorate/quorate/cmd/quorated/config/internal/quote"
)

// Complete makes of an agreed text the file of a node: what that decides by itself, its
// secrets among them, is taken from a file of its own. Taken says what that is, without
// values. A secret that is in neither is an error: "(own)" is never written.
func Complete(text string, file Config) (out string, taken []string, err error) {
	e, err := edited(WithOwn(text, file))
	if err != nil {
		return "", nil, err
	}
	c, err := ParseAgreed(e.text)
	if err != nil {
		return "", nil, err
	}
	for _, key := range localKeys {
		if _, ok := e.find(key); ok {
			taken = append(taken, key)
		}
	}
	filled, missing := fillSecrets(c, file)
	if len(missing) > 0 {
		return "", nil, fmt.Errorf("the secrets of fence devices are not in %s: %s; write each with its [[fence]] there and try again, or have password_file agreed on with `quorate config apply`", file.Path, strings.Join(missing, ", "))
	}
	var edits []edit
	first := 0 // of the section's devices: one for each of its nodes
	for i, f := range e.Fence {
		last := first + len(f.Nodes)
		for _, key := range slices.Sorted(maps.Keys(c.Devices[first].Options)) {
			if !hidden(key) || c.Devices[first].Options[key] != OwnValue {
				continue
			}
			value := filled[first].Options[key]
			for k := first; k < last; k++ {
				taken = append(taken, secretOf(c, c.Devices[k], key))
				if filled[k].Options[key] != value {
					return "", nil, fmt.Errorf("%s has one value in the agreed configuration, and in %s another one than %s: write the same there, or have a [[fence]] for each agreed on with `quorate config apply`",
						secretOf(c, c.Devices[k], key), file.Path, secretOf(c, c.Devices[first], key))
				}
			}
			x, ok := e.find(fmt.Sprintf("fence[%d].options.%s", i, key))
			if !ok {
				return "", nil, fmt.Errorf("%w: option %q of %s is written in a way that has to be edited by hand, from `quorate config show --own`", ErrInvalid, key, c.Devices[first].Agent)
			}
			edits = append(edits, edit{x.val, x.end, quote.TOML(value)})
		}
		first = last
	}
	out = apply(e.text, edits)
	is, err := Parse(cmp.Or(file.Path, DefaultPath), []byte(out))
	if err == nil {
		err = ownValues(is)
	}
	if err == nil && !is.Digest.Equal(c.Digest) {
		err = fmt.Errorf("%w: it would differ from the agreed one in %s: edit it by hand, from `quorate config show --own`", ErrInvalid, strings.Join(Diff(is.Digest, c.Digest), ", "))
	}
	return out, taken, err
}

// Says reports whether a file's text says already what was agreed on, in the same words.
func Says(file, agreed string) bool {
	text, err := Replicable(file)
	return err == nil && SameText(text, agreed)
}

// OtherSecrets says which secrets a file has other values of than a node works by, and
// what makes them count; empty: none. It has no value.
func OtherSecrets(file, now Config) string {
	var other []string
	for i, d := range now.Devices {
		mine := sameDevice(now.Devices[:i+1], file.Devices)
		for _, key := range slices.Sorted(maps.Keys(d.Options)) {
			if mine == nil || !hidden(key) || mine.Options[key] == "" || mine.Options[key] == OwnValue || mine.Options[key] == d.Options[key] {
				continue
			}
			other = append(other, secretOf(now, d, key))
		}
	}
	if len(other) == 0 {
		return ""
	}
	differs, one := "differs", "the one"
	if len(other) > 1 {
		differs, one = "differ", "those"
	}
	return fmt.Sprintf("%s in %s %s from %s in use: a secret in the file is read when quorated starts and when another version of the configuration comes into force, and not before; unmount, `quorate leave` and start quorated here, or have any change agreed on (a password_file is read each time it is needed)",
		strings.Join(other, ", "), file.Path, differs, one)
}

// LiteralSecrets says which secrets stand in the file itself.
func (c Config) LiteralSecrets() []string {
	all := secretsOf(c)
	slices.Sort(all)
	return slices.Compact(all)
}
