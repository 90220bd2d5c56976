package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

// The text that the members agree on has no secrets, and nothing that each node
// decides by itself: it is in the logs of all nodes, for as long as these last.

// OwnValue stands in an agreed text where every node has a value of its own, in its
// own file: a secret.
const OwnValue = "(own)"

// ErrSecret is a text with secrets in it, which must not be agreed on.
var ErrSecret = errors.New("secrets are not given to the cluster's log")

// localKeys are what a node decides by itself. They are not in an agreed text.
var localKeys = []string{"cluster.key_file", "cluster.kernel", "state.dir", "events.send_to", "liveness.reflector"}

var fenceOption = regexp.MustCompile(`^fence\[\d+\]\.options\.([^.]+)$`)

// hidden says whether an option's value is a secret by itself, and not the path of one.
func hidden(key string) bool {
	k := strings.ReplaceAll(key, "-", "_")
	return SecretOption(key) && !strings.HasSuffix(k, "_script") && !strings.HasSuffix(k, "_file")
}

// ParseAgreed reads a text that the members agreed on, or may. It is the same at every
// node: secrets are OwnValue, and what a node decides by itself has its default.
func ParseAgreed(text string) (Config, error) { return Parse("quorate.toml", []byte(text)) }

// ownValues refuses a file that says of a secret only that every node has its own.
func ownValues(c Config) error {
	for _, d := range c.Devices {
		for k, v := range d.Options {
			if hidden(k) && v == OwnValue {
				return fmt.Errorf("%w: %s: option %q of %s is %q, which stands for this node's own value where the cluster's configuration is shown: write the value here, or %s_file = \"/path\"",
					ErrInvalid, c.Path, k, d.Agent, OwnValue, k)
			}
		}
	}
	return nil
}

// Replicable makes of a file's text one that may be agreed on: secrets become
// OwnValue, and what each node decides by itself goes, with sections that had nothing else.
func Replicable(text string) (string, error) {
	s := scan(text)
	var edits []edit
	left := map[string]bool{} // sections from which something went
	for _, x := range s.spans {
		m := fenceOption.FindStringSubmatch(x.path)
		switch {
		case m != nil && hidden(m[1]) && text[x.val:x.end] != `"`+OwnValue+`"`:
			edits = append(edits, edit{x.val, x.end, `"` + OwnValue + `"`})
		case slices.Contains(localKeys, x.path) && !x.inline:
			edits = append(edits, wholeLine(text, x))
			section, _, _ := strings.Cut(x.path, ".")
			left[section] = true
		}
	}
	out := withoutEmpty(apply(text, edits), left)
	return out, Public(out)
}

// withoutEmpty takes out the headers of some sections where nothing, and no comment,
// stands below them.
func withoutEmpty(text string, sections map[string]bool) string {
	s := scan(text)
	var edits []edit
	for i, h := range s.headers {
		next := s.until(i)
		if !sections[h.path] || strings.TrimSpace(text[h.end:next]) != "" || strings.Contains(text[h.at:h.end], "#") {
			continue
		}
		edits = append(edits, edit{from: h.at, to: next})
	}
	if len(edits) == 0 {
		return text
	}
	return strings.TrimRight(apply(text, edits), "\n") + "\n"
}

// Agreeable is what of a file a new cluster agrees on. What stands against that is an
// ErrInvalid.
func (c Config) Agreeable() (string, error) {
	text, err := Replicable(c.Text)
	if err == nil {
		err = cluster.ConfigFits(text)
	}
	if err != nil {
		err = fmt.Errorf("%w: %s: %w", ErrInvalid, c.Path, err)
	}
	return text, err
}

// Public refuses a text that must not be agreed on: one with secrets, or with keys
// that each node decides by itself.
func Public(text string) error {
	c, err := ParseAgreed(text)
	if err != nil {
		return err
	}
	for _, d := range c.Devices {
		for k, v := range d.Options {
			if hidden(k) && v != OwnValue {
				return newSecret(c, d, k)
			}
		}
	}
	s := scan(text)
	for _, key := range localKeys {
		if _, ok := s.find(key); ok {
			return fmt.Errorf("%w: %s is each node's own: remove it here; it is changed in that node's quorate.toml, with quorated stopped", ErrInvalid, key)
		}
	}
	return nil
}

// WithOwn adds to an agreed text what this node decides by itself, where that is not
// the default: so it can be the node's file. Secrets stay OwnValue.
func WithOwn(text string, own Config) string {
	kernel := ""
	if own.NoKernel {
		kernel = "none"
	}
	for _, x := range []struct{ section, key, value, def string }{
		{"cluster", "key_file", own.KeyFile, DefaultKeyFile}, {"cluster", "kernel", kernel, ""},
		{"events", "send_to", own.EventsTo, ""}, {"state", "dir", own.StateDir, DefaultStateDir},
		{"liveness", "reflector", own.Reflector, DefaultReflector},
	} {
		if x.value == x.def || x.value == "" {
			continue
		}
		line := fmt.Sprintf("%s = %q\n", x.key, x.value)
		s := scan(text)
		i := slices.IndexFunc(s.headers, func(h header) bool { return h.path == x.section })
		if i < 0 {
			text = strings.TrimRight(text, "\n") + "\n\n[" + x.section + "]\n" + line
			continue
		}
		text = text[:s.headers[i].end] + line + text[s.headers[i].end:]
	}
	return text
}

// Effective is the configuration that a node works by: what was agreed on, and from
// its own file what it decides by itself, and its secrets. A secret belongs to the
// device of the same node, agent and level. Missing says which ones the file has not.
func Effective(text string, own Config) (c Config, missing []string, err error) {
	if c, err = ParseAgreed(text); err != nil {
		return Config{}, nil, err
	}
	c.Path, c.Self = own.Path, own.Self
	c.KeyFile, c.NoKernel, c.StateDir, c.EventsTo, c.Reflector = own.KeyFile, own.NoKernel, own.StateDir, own.EventsTo, own.Reflector
	c.Devices, missing = fillSecrets(c, own)
	c.Warnings = warnings(c)
	return c, missing, nil
}

func fillSecrets(c, own Config) (out []membership.Device, missing []string) {
	for i, d := range c.Devices {
		mine := sameDevice(c.Devices[:i+1], own.Devices)
		options := map[string]string{}
		for k, v := range d.Options {
			options[k] = v
			if !hidden(k) || v != OwnValue {
				continue
			}
			delete(options, k)
			if mine != nil && mine.Options[k] != "" && mine.Options[k] != OwnValue {
				options[k] = mine.Options[k]
				continue
			}
			missing = append(missing, secretOf(c, d, k))
		}
		d.Options = options
		out = append(out, d)
	}
	slices.Sort(missing)
	return out, missing
}

// sameDevice is the device of own that the last of some is, by its place among those
// of its node, agent and level.
func sameDevice(some, own []membership.Device) *membership.Device {
	d := some[len(some)-1]
	like := func(o membership.Device) bool {
		return o.Nodes[0] == d.Nodes[0] && o.Agent == d.Agent && o.Level == d.Level
	}
	place := 0
	for _, o := range some[:len(some)-1] {
		if like(o) {
			place++
		}
	}
	for i := range own {
		if like(own[i]) {
			if place == 0 {
				return &own[i]
			}
			place--
		}
	}
	return nil
}

// CheckChange says what of a change cannot be done while the cluster runs, and how it
// is done instead. Replace are nodes that may be at other addresses.
func CheckChange(old, now Config, replace []membership.NodeID) error {
	var faults []string
	anew := ""
	fixed := func(key, was, is string) {
		if was != is {
			faults = append(faults, fmt.Sprintf("%s cannot be changed while the cluster runs (%s, not %s): write %s", key, was, is, was))
			anew = ", or " + old.Anew()
		}
	}
	fixed("name", old.Cluster, now.Cluster)
	fixed("port", fmt.Sprint(old.Port), fmt.Sprint(now.Port))
	fixed("probe_port", fmt.Sprint(old.ProbePort), fmt.Sprint(now.ProbePort))
	fixed("dlm_port", fmt.Sprint(old.DLMPort), fmt.Sprint(now.DLMPort))
	fixed("dlm_address", old.dlmWord(), now.dlmWord())
	fixed("group", old.Group, now.Group)
	if anew != "" {
		faults[len(faults)-1] += anew
	}
	for _, n := range now.Nodes {
		was, ok := old.Node(n.ID)
		switch {
		case !ok:
			if o := slices.IndexFunc(old.Nodes, func(o membership.Node) bool { return o.Name == n.Name }); o >= 0 {
				faults = append(faults, fmt.Sprintf("node %s has id %d, not %d: an id is never changed; remove the node and add another one", n.Name, old.Nodes[o].ID, n.ID))
			}
		case was.Name != n.Name:
			faults = append(faults, fmt.Sprintf("node %d is %s, not %s: a node's name is not changed while the cluster runs; remove the node and add another one", n.ID, was.Name, n.Name))
		case !slices.Equal(was.Addrs, n.Addrs) && !slices.Contains(replace, n.ID):
			faults = append(faults, fmt.Sprintf("node %s is at %s, not %s: drain it, then run `quorate node replace %s --addr %s`", n.Name, joinAddrs(was.Addrs), joinAddrs(n.Addrs), n.Name, strings.ReplaceAll(joinAddrs(n.Addrs), " ", ",")))
		}
	}
	if own, ok := old.Node(old.Self); ok {
		if is, ok := now.Node(old.Self); !ok || !slices.EqualFunc(own.Addrs, is.Addrs, func(a, b netip.Addr) bool { return a == b }) {
			faults = append(faults, memberStays(own))
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrInvalid, strings.Join(faults, "; "))
}

// Agreeable makes of a file's text one that may take the place of an agreed one.
// Secrets that each node has in its own file already stay there; a new one is refused.
func Agreeable(text, agreed string) (string, error) {
	c, err := ParseAgreed(text)
	if err != nil {
		return "", err
	}
	was, err := ParseAgreed(agreed)
	if err != nil {
		return "", err
	}
	own := secretsOf(was)
	for _, d := range c.Devices {
		for k, v := range d.Options {
			if hidden(k) && v != OwnValue && !slices.Contains(own, secretOf(c, d, k)) {
				return "", newSecret(c, d, k)
			}
		}
	}
	return Replicable(text)
}

func secretOf(c Config, d membership.Device, key string) string {
	return fmt.Sprintf("%s of %s for node %s", key, d.Agent, c.Name(d.Nodes[0]))
}

func secretsOf(c Config) (out []string) {
	for _, d := range c.Devices {
		for k := range d.Options {
			if hidden(k) {
				out = append(out, secretOf(c, d, k))
			}
		}
	}
	return out
}

func newSecret(c Config, d membership.Device, key string) error {
	return fmt.Errorf("%w: option %q of %s for node %s has its value in the text: write the path of a file that has it on every node, %s_file = \"/path\", or of a program that prints it, %s_script; or %s = %q, and the value into quorate.toml on every node",
		ErrSecret, key, d.Agent, c.Name(d.Nodes[0]), key, key, key, OwnValue)
}
