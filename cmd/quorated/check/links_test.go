package check

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the file says of links, on a machine where all is well otherwise.
func TestLinksOfTheFile(t *testing.T) {
	for _, s := range []struct{ name, old, now, want string }{
		{"swapped at a peer", `["10.0.0.2", "10.0.1.2"]`, `["10.0.1.2", "10.0.0.2"]`,
			"\n!!  address 10.0.1.2 of link 0 of beta is in the network of link 1 here (10.0.1.0/24, on eth1) — give the addresses of every node in the order of the links\n"},
		{"routed", `["10.0.0.2", "10.0.1.2"]`, `["10.5.0.2", "10.5.1.2"]`, ""},
		{"lan over one", `, "10.0.1.`, `] # "`, "\n--  profile lan, and one link: when it fails, nodes are fenced within dead_after = 190ms; "},
	} {
		path := filepath.Join(t.TempDir(), "quorate.toml")
		file := strings.ReplaceAll(text, s.old, s.now)
		if s.name == "lan over one" {
			file += "[liveness]\nprofile = \"lan\"\n"
		}
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		good().machine(t).File(t.Context(), &out, path, "")
		if got := out.String(); !strings.Contains(got, s.want) || s.want == "" && strings.Contains(got, "in the network of") {
			t.Errorf("%s:\n%s", s.name, got)
		}
	}
}

// The machine that we are on: it has a loopback interface, which is up.
func TestInterfacesOfThisMachine(t *testing.T) {
	all, err := interfaces()
	if err != nil {
		t.Fatal(err)
	}
	p := find(all, netip.MustParseAddr("127.0.0.1"))
	if !p.on.Up || !p.on.Carrier || p.net != netip.MustParsePrefix("127.0.0.0/8") || !slices.Contains(addrs(all), netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("%+v of %+v", p, all)
	}
}
