package check

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// With a stable address the DLM's ports are not tried, since nobody has the address yet;
// what filters by the way back is named, with what to do.
func TestStableAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quorate.toml")
	stable := strings.Replace(text, "dlm_address = \"first\"", "dlm_network = \"10.99.0.0/24\"", 1)
	if err := os.WriteFile(path, []byte(stable), 0o600); err != nil {
		t.Fatal(err)
	}
	filter := func(values ...string) *world {
		w := good()
		for i := 0; i < len(values); i += 2 {
			w.files["proc/sys/net/ipv4/conf/"+values[i]+"/rp_filter"] = values[i+1] + "\n"
		}
		return w
	}
	for _, s := range []struct {
		name   string
		w      *world
		strict string // on which interfaces; empty: on none
	}{
		{"off", filter("all", "0", "default", "1", "lo", "1", "eth0", "0", "eth1", "2"), ""},
		{"one", filter("all", "0", "eth0", "0", "eth1", "1"), "eth1"},
		{"all", filter("all", "1", "lo", "0", "eth0", "0", "eth1", "2", "eth2", "1"), "eth0, eth2"},
		{"loose for all", filter("all", "2", "eth0", "1"), ""},
	} {
		var out bytes.Buffer
		if bad := s.w.machine(t).File(t.Context(), &out, path, ""); bad != 0 {
			t.Errorf("%s: %d things are wrong:\n%s", s.name, bad, out.String())
		}
		said := out.String()
		if strings.Contains(said, "DLM port 10.99") || !strings.Contains(said, "the DLM's address is 10.99.0.1, of dlm_network 10.99.0.0/24") {
			t.Errorf("%s:\n%s", s.name, said)
		}
		if _, rest, _ := strings.Cut(said, "rp_filter is strict on "); !strings.HasPrefix(rest, s.strict) || (s.strict == "") != (rest == "") {
			t.Errorf("%s: %s", s.name, rest)
		}
	}
}
