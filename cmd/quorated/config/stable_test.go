package config

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/quorate/quorate/membership"
)

var linked = strings.NewReplacer(`["10.0.0.1"]`, `["10.0.0.1", "10.0.1.1"]`, `["10.0.0.2"]`, `["10.0.0.2", "10.0.1.2"]`).Replace(two)

func stableText(lines string) string { return strings.Replace(linked, "fencing", lines+"\nfencing", 1) }

func TestStableAddress(t *testing.T) {
	if a, b := parse(t, stableText("dlm_network = \"10.99.0.0/24\"")), parse(t, stableText("dlm_address = \"stable\"\ndlm_network = \"10.99.0.0/24\"")); !a.AnyLink || a.DLMNetwork != b.DLMNetwork || !a.Digest.Equal(b.Digest) {
		t.Errorf("without dlm_address: %v, any link %v", a.DLMNetwork, a.AnyLink)
	}
	for network, want := range map[string]string{"10.99.0.0/24": "10.99.0.2", "172.16.0.0/12": "172.16.0.2", "10.99.0.0/30": "10.99.0.2"} {
		c := parse(t, stableText("dlm_address = \"stable\"\ndlm_network = \""+network+"\""))
		if a := c.DLMAddr(c.Nodes[1]); a.String() != want || !c.AnyLink {
			t.Errorf("%s: %v, any link %v", network, a, c.AnyLink)
		}
	}
	six := strings.NewReplacer("10.0.0.", "fd00:0::", "10.0.1.", "fd00:1::").Replace(stableText("dlm_address = \"stable\"\ndlm_network = \"fd99::/64\""))
	six = strings.ReplaceAll(six, "id = 2", "id = 1073741823")
	c := parse(t, six)
	if a := c.DLMAddr(c.Nodes[1]); a != netip.MustParseAddr("fd99::3fff:ffff") {
		t.Errorf("%v", a)
	}
	c = parse(t, linked)
	if a := c.DLMAddr(c.Nodes[1]); a.String() != "10.0.0.2" || c.AnyLink || c.DLMNetwork.IsValid() {
		t.Errorf("by default: %v, any link %v", a, c.AnyLink)
	}
}

// What contradicts itself is said with what to write instead.
func TestStableAddressFaults(t *testing.T) {
	for lines, want := range map[string]string{
		"dlm_address = \"first\"\ndlm_network = \"10.99.0.0/24\"":        `write that, or remove one of both`,
		"dlm_network = \"10.99.0.0\"":                                    `write an address, a slash`,
		"dlm_address = \"stable\"":                                       `write dlm_network = "10.99.0.0/24" or another`,
		"dlm_address = \"stabel\"":                                       `did you mean "stable"`,
		"dlm_address = \"stable\"\ndlm_network = \"10.99.0.0\"":          `write an address, a slash`,
		"dlm_address = \"stable\"\ndlm_network = \"10.99.0.7/24\"":       `write "10.99.0.0/24"`,
		"dlm_address = \"stable\"\ndlm_network = \"127.0.0.0/8\"":        `cannot be routed`,
		"dlm_address = \"stable\"\ndlm_network = \"fe80::/64\"":          `cannot be routed`,
		"dlm_address = \"stable\"\ndlm_network = \"::ffff:10.0.0.0/96\"": `written as IPv6`,
		"dlm_address = \"stable\"\ndlm_network = \"fd00::/64\"":          `of another family`,
		"dlm_address = \"stable\"\ndlm_network = \"10.0.0.0/8\"":         `which must be a network that nothing else uses`,
		"dlm_address = \"stable\"\ndlm_network = \"10.99.0.0/31\"":       `id 2 is not within`,
	} {
		if _, err := Parse("quorate.toml", []byte(stableText(lines))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", lines, err)
		}
	}
	for _, address := range []string{"", "dlm_address = \"stable\"\n"} {
		one := strings.Replace(two, "fencing", address+"dlm_network = \"10.99.0.0/24\"\nfencing", 1)
		if _, err := Parse("quorate.toml", []byte(one)); err == nil || !strings.Contains(err.Error(), "write a second address of each node, or remove dlm_network") {
			t.Errorf("with one link: %v", err)
		}
	}
}

// Who has several links is told what to write, once it is not said what is meant. What is
// proposed can be written.
func TestStableAddressIsProposed(t *testing.T) {
	told := func(c Config) string {
		for _, w := range c.Warnings {
			if strings.Contains(w, "the DLM uses the first link alone") {
				return w
			}
		}
		return ""
	}
	for _, text := range []string{two, stableText("dlm_address = \"first\""), stableText("dlm_network = \"10.99.0.0/24\""), stableText("kernel = \"none\"")} {
		if w := told(parse(t, text)); w != "" {
			t.Errorf("%s\n%s", w, text)
		}
	}
	v6 := strings.NewReplacer("10.0.0.", "fd00:0::", "10.0.1.", "fd00:1::")
	for _, c := range []struct{ text, want string }{
		{linked, `"10.99.0.0/24"`},
		{strings.ReplaceAll(linked, "10.0.1.", "10.99.0."), `"172.30.99.0/24"`},
		{strings.ReplaceAll(linked, "id = 2", "id = 300"), `"10.99.0.0/16"`},
		{strings.ReplaceAll(strings.ReplaceAll(linked, "id = 2", "id = 70000"), "10.0.", "172.16."), `"10.0.0.0/8"`},
		{v6.Replace(linked), `"fd99::/64"`},
		{strings.ReplaceAll(linked, "id = 2", "id = 70000"), "a network that nothing else uses"},
	} {
		w := told(parse(t, c.text))
		if !strings.Contains(w, "write dlm_network") || !strings.Contains(w, c.want) || !strings.Contains(w, `or dlm_address = "first" if it is meant so`) {
			t.Errorf("%q, want %s", w, c.want)
		}
		if strings.HasPrefix(c.want, `"`) {
			parse(t, strings.Replace(c.text, "fencing", "dlm_network = "+c.want+"\nfencing", 1))
		}
	}
	own := parse(t, stableText("kernel = \"none\""))
	if c, _, err := Effective(linked, own); err != nil || told(c) != "" {
		t.Errorf("a node without a DLM: %v, %s", err, told(c))
	}
	if c, _, err := Effective(linked, parse(t, linked)); err != nil || told(c) == "" {
		t.Errorf("%v, and nothing is told", err)
	}
}

// It is the same on every node and does not change while the cluster runs.
func TestStableAddressIsFixed(t *testing.T) {
	with := func(network string) Config {
		return parse(t, stableText("dlm_address = \"stable\"\ndlm_network = \""+network+"\""))
	}
	first, a, b := parse(t, linked), with("10.99.0.0/24"), with("10.98.0.0/24")
	for _, x := range []Config{first, b} {
		if d := Diff(a.Digest, x.Digest); len(d) != 1 || d[0] != "cluster.dlm_address" {
			t.Errorf("they differ in %v", d)
		}
		if err := CheckChange(x, a, []membership.NodeID{1}); err == nil || !strings.Contains(err.Error(), "dlm_address cannot be changed while the cluster runs") {
			t.Errorf("%v", err)
		}
	}
	if err := CheckChange(a, a, nil); err != nil {
		t.Error(err)
	}
}
