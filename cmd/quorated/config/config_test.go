package config

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/quorum"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

const two = `
[cluster]
name = "tank"
fencing = "manual"
[[node]]
name = "alpha"
id = 1
addr = ["10.0.0.1"]
[[node]]
name = "beta"
id = 2
addr = ["10.0.0.2"]
`

func parse(t *testing.T, text string) Config {
	t.Helper()
	c, err := Parse("quorate.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func reference(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../dist/quorate.toml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestReferenceIsComplete(t *testing.T) {
	text := reference(t)
	plain := parse(t, text)
	if len(plain.Nodes) != 3 || len(plain.Devices) != 6 || plain.Timing.Profile != "safe" {
		t.Fatalf("unexpected: %+v", plain)
	}
	// Every key that is commented out is a valid key and shows its default.
	full := regexp.MustCompile(`(?m)^#([a-z_]+ = )`).ReplaceAllString(text, "$1")
	all := parse(t, full)
	if all.EventsTo == "" {
		t.Error("send_to was not set by the uncommented reference")
	}
	all.EventsTo, all.ProfileWhy, plain.ProfileWhy, all.Text, plain.Text = "", "", "", "", ""
	if !reflect.DeepEqual(plain, all) {
		t.Errorf("a default in the reference is not the default:\n%+v\n%+v", plain, all)
	}
	// And every key of the parser is in the reference.
	for _, key := range []string{"name", "port", "probe_port", "dlm_port", "dlm_address", "dlm_network", "join_grace", "startup_fencing", "join_timeout", "fencing", "kernel", "group", "members", "key_file", "id", "addr",
		"nodes", "agent", "level", "timeout", "verify", "unfence", "delay", "random_delay", "monitor", "options", "plugs", "profile", "interval", "dead_after", "stall_limit", "recovery_stall", "reflector", "send_to", "dir",
		"votes", "expected_votes", "two_node", "wait_for_all", "auto_tie_breaker", "last_man_standing", "last_man_standing_window", "leave_removes_vote", "takeover_delay"} {
		if !regexp.MustCompile(`(?m)^#? ?` + key + ` = `).MatchString(text) {
			t.Errorf("key %s is not in the reference", key)
		}
	}
}

func TestDefaults(t *testing.T) {
	c := parse(t, two)
	if c.Port != 21060 || c.ProbePort != 21061 || c.DLMPort != 21064 || c.JoinGrace != 30*time.Second || c.JoinTimeout != 10*time.Second {
		t.Errorf("defaults: %+v", c)
	}
	if !c.ManualFence || c.StateDir != DefaultStateDir || c.KeyFile != DefaultKeyFile || c.EventsTo != "" || c.Reflector != "auto" {
		t.Errorf("defaults: %+v", c)
	}
	want := membership.Timing{Profile: "safe", Interval: 400 * time.Millisecond, DeadAfter: 2 * time.Second, LinkSettle: 2800 * time.Millisecond,
		StallLimit: 10 * time.Second, RecoveryStall: 3 * time.Second}
	if c.Timing != want || !strings.HasPrefix(c.ProfileWhy, "auto: safe, because") {
		t.Errorf("timing %+v, %s", c.Timing, c.ProfileWhy)
	}
}

func TestEveryProfileIsValid(t *testing.T) {
	for _, p := range []string{"fast", "lan", "safe", "vm"} {
		c := parse(t, two+"[liveness]\nprofile = \""+p+"\"\n")
		if c.Timing.Profile != p || c.Timing.LinkSettle < c.Timing.DeadAfter+2*c.Timing.Interval {
			t.Errorf("%s: %+v", p, c.Timing)
		}
	}
	if _, ok := Profile("slow"); ok {
		t.Error("a profile that is none")
	}
}

func TestExplicitTimes(t *testing.T) {
	c := parse(t, two+"[liveness]\nprofile=\"lan\"\ninterval=\"20ms\"\ndead_after=\"100ms\"\n")
	if c.Timing.LinkSettle != 140*time.Millisecond || !strings.Contains(c.ProfileWhy, "one by one") {
		t.Errorf("%+v %s", c.Timing, c.ProfileWhy)
	}
}

func TestFenceExpansion(t *testing.T) {
	c := parse(t, two+`
[[fence]]
nodes = ["alpha", 2]
agent = "fence_x"
options = { ip = "{name}-{id}.{node}", password = "{braces}", verbose = true, retries = 3 }
plugs = { alpha = "p1", 2 = "p2" }
`)
	want := []membership.Device{
		{Nodes: []membership.NodeID{1}, Agent: "fence_x", Level: 1, Timeout: 30 * time.Second, Monitor: time.Minute,
			Options: map[string]string{"ip": "alpha-1.alpha", "password": "{braces}", "verbose": "1", "retries": "3", "plug": "p1"}},
		{Nodes: []membership.NodeID{2}, Agent: "fence_x", Level: 1, Timeout: 30 * time.Second, Monitor: time.Minute,
			Options: map[string]string{"ip": "beta-2.beta", "password": "{braces}", "verbose": "1", "retries": "3", "plug": "p2"}},
	}
	if !reflect.DeepEqual(c.Devices, want) {
		t.Errorf("devices %+v", c.Devices)
	}
}

func TestFenceVerify(t *testing.T) {
	const dev = two + "[[fence]]\nnodes = [1, 2]\nagent = \"fence_x\"\n"
	for text, skip := range map[string]bool{"": false, "verify = true\n": false, "verify = false\n": true} {
		for _, d := range parse(t, dev+text).Devices {
			if d.SkipVerify != skip {
				t.Errorf("%q: %+v", text, d)
			}
		}
	}
}

func TestFenceTimes(t *testing.T) {
	const dev = two + "[[fence]]\nnodes = [1, 2]\nagent = \"fence_x\"\ntimeout = \"10s\"\n"
	for text, want := range map[string][4]time.Duration{ // delay, random_delay, monitor, and the lease of one use
		"":                        {0, 0, time.Minute, 20 * time.Second},
		"delay = \"5s\"\n":        {5 * time.Second, 0, time.Minute, 25 * time.Second},
		"random_delay = \"3s\"\n": {0, 3 * time.Second, time.Minute, 23 * time.Second},
		"monitor = \"5m\"\n":      {0, 0, 5 * time.Minute, 20 * time.Second},
		"monitor = \"off\"\n":     {0, 0, 0, 20 * time.Second},
		"monitor = \"0s\"\n":      {0, 0, 0, 20 * time.Second},
	} {
		for _, d := range parse(t, dev+text).Devices {
			if got := [4]time.Duration{d.Delay, d.RandomDelay, d.Monitor, d.Lease()}; got != want {
				t.Errorf("%q: %v, want %v", text, got, want)
			}
		}
	}
}

// TestTwoPowerSupplies: reboot cuts nothing where another device feeds the node as well.
func TestTwoPowerSupplies(t *testing.T) {
	const pdus = two + "[[fence]]\nnodes=[1,2]\nagent=\"fence_a\"\n[[fence]]\nnodes=[2]\nagent=\"fence_b\"\n"
	parse(t, pdus)
	parse(t, pdus+"level=2\noptions={action=\"reboot\"}\n") // a level of its own
	_, err := Parse("f", []byte(pdus+"options={action=\"reboot\"}\n"))
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), `"reboot" for node "beta", which has several devices of level 1`) || strings.Contains(err.Error(), "alpha") {
		t.Errorf("%v", err)
	}
}

// TestSecretFilePath: a path is no secret, and may have the node's name in it.
func TestSecretFilePath(t *testing.T) {
	c := parse(t, two+"[[fence]]\nnodes=[1,2]\nagent=\"fence_x\"\noptions={password_file=\"/etc/quorate/{name}\", passwd_script=\"/{x}\"}\n")
	if o := c.Devices[1].Options; o["password_file"] != "/etc/quorate/beta" || o["passwd_script"] != "/{x}" {
		t.Errorf("%v", o)
	}
}

func TestWarnings(t *testing.T) {
	if w := parse(t, two).Warnings; len(w) != 1 || !strings.HasPrefix(w[0], "fencing is manual: the storage") {
		t.Errorf("%v", w)
	}
	if w := parse(t, strings.Replace(two, "10.0.0.2", "127.0.1.1", 1)).Warnings; len(w) != 2 || !strings.Contains(w[1], "beta has a loopback") {
		t.Errorf("%v", w)
	}
	if w := parse(t, reference(t)).Warnings; w != nil {
		t.Errorf("the reference warns: %v", w)
	}
}

func TestStartupFencing(t *testing.T) {
	c := parse(t, two)
	wait := parse(t, strings.Replace(two, "[cluster]", "[cluster]\nstartup_fencing = \"wait\"\njoin_grace = \"2m\"", 1))
	if c.StartupFencing != membership.StartupNeeded || wait.StartupFencing != membership.StartupWait || wait.JoinGrace != 2*time.Minute {
		t.Errorf("%q %q %v", c.StartupFencing, wait.StartupFencing, wait.JoinGrace)
	}
	if got := Diff(c.Digest, wait.Digest); !slices.Equal(got, []string{"cluster.join_grace", "cluster.startup_fencing"}) {
		t.Errorf("differs in %v", got)
	}
}

// TestKernel: a node may have no DLM, and need not be like the others in that.
func TestKernel(t *testing.T) {
	c := parse(t, two)
	none := parse(t, strings.Replace(two, "[cluster]", "[cluster]\nkernel = \"none\"", 1))
	if c.NoKernel || !none.NoKernel || !c.Digest.Equal(none.Digest) {
		t.Errorf("%v %v, differs in %v", c.NoKernel, none.NoKernel, Diff(c.Digest, none.Digest))
	}
	if _, err := Parse("f", []byte(strings.Replace(two, "[cluster]", "[cluster]\nkernel = \"gfs\"", 1))); !errors.Is(err, ErrInvalid) {
		t.Errorf("another word: %v", err)
	}
}

func TestOneNodeNeedsNoDevice(t *testing.T) {
	parse(t, "[cluster]\nname=\"x\"\n[[node]]\nname=\"a\"\nid=7\naddr=[\"fd00::1\"]\n")
}

// TestBad compares the faults of every testdata/bad/*.toml with its .golden.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(filepath.Base(f), data)
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("not refused: %v", err)
			}
			golden := strings.TrimSuffix(f, ".toml") + ".golden"
			if *rewrite {
				if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, rerr := os.ReadFile(golden)
			if rerr != nil || string(want) != err.Error()+"\n" {
				t.Errorf("got\n%v\nwant\n%s(%v)", err, want, rerr)
			}
		})
	}
}

func TestBind(t *testing.T) {
	c := parse(t, two)
	addr := netip.MustParseAddr
	tests := []struct {
		name     string
		local    []netip.Addr
		override string
		self     membership.NodeID
		want     []string
	}{
		{"by address", []netip.Addr{addr("127.0.0.1"), addr("10.0.0.2")}, "", 2, nil},
		{"none", []netip.Addr{addr("192.168.0.9")}, "", 0, []string{"no node has an address", "configured alpha: 10.0.0.1", "configured beta: 10.0.0.2", "this machine: 192.168.0.9", "start with -node"}},
		{"both", []netip.Addr{addr("10.0.0.1"), addr("10.0.0.2")}, "", 0, []string{"alpha and beta all have", "this machine: 10.0.0.1 10.0.0.2"}},
		{"override by name", nil, "beta", 2, nil},
		{"override by id", []netip.Addr{addr("10.0.0.2")}, "1", 1, nil},
		{"override unknown", nil, "bta", 0, []string{`did you mean "beta"?`, "alpha, beta"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := c.Bind(tt.local, tt.override)
			if got.Self != tt.self || (err != nil) != (tt.want != nil) || err != nil && !errors.Is(err, ErrSelf) {
				t.Fatalf("self %d, %v", got.Self, err)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in %v", w, err)
				}
			}
		})
	}
	if c.Self != 0 {
		t.Error("Bind changed its receiver")
	}
}

func TestLocalAddrsHasLoopback(t *testing.T) {
	all, err := LocalAddrs()
	if err != nil || !slices.ContainsFunc(all, netip.Addr.IsLoopback) {
		t.Errorf("%v %v", all, err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	var oe *OpError
	if _, err := Load(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) || !errors.As(err, &oe) || !strings.Contains(err.Error(), "copy the reference") {
		t.Errorf("missing: %v", err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(fifo); !errors.Is(err, ErrInvalid) {
		t.Errorf("a fifo that nobody writes to: %v", err)
	}
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, MaxSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(big); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("big: %v", err)
	}
	good := filepath.Join(dir, "good")
	if err := os.WriteFile(good, []byte(two), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(good); err != nil || c.Path != good {
		t.Errorf("good: %v %v", c, err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a directory was read")
	}
}

func TestDigest(t *testing.T) {
	base := parse(t, reference(t))
	change := func(old, new string) Config {
		text := reference(t)
		if !strings.Contains(text, old) {
			t.Fatalf("%q is not in the reference", old)
		}
		return parse(t, strings.Replace(text, old, new, 1))
	}
	tests := []struct {
		name     string
		old, new string
		want     []string
	}{
		{"comment", "# The part", "# A part", nil},
		{"default written out", "#port = 21060", "port = 21060", nil},
		{"own to the node", `#dir = "/var/lib/quorate"`, `dir = "/srv"`, nil},
		{"port", "#port = 21060", "port = 9", []string{"cluster.port"}},
		{"address", "10.0.1.3", "10.0.1.9", []string{"node.gamma.addr"}},
		{"votes", "#votes = 1", "votes = 2", []string{"node.alpha.votes"}},
		{"rule", "#last_man_standing = false", "last_man_standing = true", []string{"quorum.last_man_standing", "quorum.last_man_standing_window"}},
		{"plug", `beta = "2"`, `beta = "7"`, []string{"node.beta.fence"}},
		{"path of a secret", `password_file = "/etc/quorate/ipmi`, `password_file = "/etc/quorate/{name}`, []string{"node.alpha.fence", "node.beta.fence", "node.gamma.fence"}},
		{"verify", `#verify = true`, `verify = false`, []string{"node.alpha.fence", "node.beta.fence", "node.gamma.fence"}},
		{"unfence", `#unfence = false`, `unfence = true`, []string{"node.alpha.fence", "node.beta.fence", "node.gamma.fence"}},
		{"delay", `#delay = "0s"`, `delay = "5s"`, []string{"node.alpha.fence", "node.beta.fence", "node.gamma.fence"}},
		{"monitor", `#monitor = "1m"`, `monitor = "off"`, []string{"node.alpha.fence", "node.beta.fence", "node.gamma.fence"}},
		{"name of a node", `name = "alpha"`, `name = "alpha2"`, nil},
		{"profile", `#profile = "auto"`, `profile = "vm"`, []string{"liveness.dead_after", "liveness.interval"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "name of a node" {
				text := strings.ReplaceAll(strings.ReplaceAll(reference(t), `"alpha"`, `"alpha2"`), "alpha = ", "alpha2 = ")
				got := Diff(base.Digest, parse(t, text).Digest)
				if len(got) != 8 || got[0] != "node.alpha.addr" || got[7] != "node.alpha2.votes" {
					t.Errorf("%v", got)
				}
				return
			}
			o := change(tt.old, tt.new)
			if got := Diff(base.Digest, o.Digest); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if base.Digest.Equal(o.Digest) != (tt.want == nil) {
				t.Error("totals do not tell what the keys tell")
			}
		})
	}
	if got := Diff(base.Digest, Digest{Total: "x", Keys: base.Digest.Keys}); !slices.Equal(got, []string{"(everything)"}) {
		t.Errorf("totals alone: %v", got)
	}
}

func TestDigestHidesSecrets(t *testing.T) {
	dev := "\n[[fence]]\nnodes=[1,2]\nagent=\"fence_x\"\n[fence.options]\npassword=\"%\"\n"
	a := parse(t, two+strings.Replace(dev, "%", "one", 1))
	b := parse(t, two+strings.Replace(dev, "%", "two", 1))
	if Diff(a.Digest, b.Digest) != nil {
		t.Error("the digest depends on a password")
	}
	for _, k := range []string{"password", "passwd", "passwd_script", "snmp_priv_passwd", "auth", "api_key", "key", "token", "secret_key", "community"} {
		if !SecretOption(k) {
			t.Errorf("%s is not taken for a secret", k)
		}
	}
	for _, k := range []string{"ip", "plug", "username", "keyboard", "monkey", "ipport", "action"} {
		if SecretOption(k) {
			t.Errorf("%s is taken for a secret", k)
		}
	}
}

func TestLocate(t *testing.T) {
	text := "# c\na = 1\n[s] # x\nk = [\n 1, # ]\n 2 ]\nl = \"\"\"\n[no]\n\"\"\"\n\"q.r\" = 'x'\n[[n]]\nv=1\n[n.o]\np.q=2\n[[n]]\nv='''\nz=1'''\nw={a=1,b=[2]}\n"
	want := map[string]int{"a": 2, "s": 3, "s.k": 4, "s.l": 7, "s.q.r": 10, "n": 11, "n[0]": 11, "n[0].v": 12, "n[0].o": 13, "n[0].o.p": 14,
		"n[0].o.p.q": 14, "n[1]": 15, "n[1].v": 16, "n[1].w": 18}
	if got := locate(text); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestSuggest(t *testing.T) {
	for _, tt := range [][2]string{{"nmae", "name"}, {"prot", "port"}, {"deadafter", "dead_after"}, {"zzzz", ""}, {"", ""}} {
		got := suggest(tt[0], []string{"name", "port", "dead_after"})
		if tt[1] == "" && got != "" || tt[1] != "" && !strings.Contains(got, tt[1]) {
			t.Errorf("%s: %s", tt[0], got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(two))
	f.Add([]byte(fenced(4, "[quorum]\nexpected_votes = 4\nauto_tie_breaker = [\"b\", 1]\nlast_man_standing = true\nleave_removes_vote = true\ntakeover_delay = \"1s\"\n")))
	if data, err := os.ReadFile("../dist/quorate.toml"); err == nil {
		f.Add(data)
	}
	files, _ := filepath.Glob("testdata/bad/*.toml")
	for _, name := range files {
		if data, err := os.ReadFile(name); err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		locate(string(data)) // must not panic on what TOML refuses either
		c, err := Parse("f", data)
		var faults Faults
		if err != nil {
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("not Faults: %v", err)
			}
			for _, x := range faults {
				if x.Line < 1 || x.Text == "" {
					t.Fatalf("bad fault %+v", x)
				}
			}
			return
		}
		// What was accepted keeps the promises that others build on.
		if !clusterName.MatchString(c.Cluster) || len(c.Nodes) == 0 || len(c.Nodes) > MaxNodes || c.Timing.DeadAfter < 3*c.Timing.Interval {
			t.Fatalf("accepted: %+v", c)
		}
		for i, n := range c.Nodes {
			if n.ID == 0 || n.Name == "" || len(n.Addrs) != len(c.Nodes[0].Addrs) || len(n.Addrs) == 0 || i > 0 && c.Nodes[i-1].ID >= n.ID {
				t.Fatalf("accepted node %+v", n)
			}
		}
		if err := quorum.New(c.Config).Check(); err != nil {
			t.Fatalf("accepted: %v", err)
		}
		for _, d := range c.Devices {
			if len(d.Nodes) != 1 || d.Agent == "" || d.Timeout <= 0 {
				t.Fatalf("accepted device %+v", d)
			}
		}
	})
}

// One mistake is one fault: a node is not listed twice because another has its id.
func TestDuplicateID(t *testing.T) {
	text := strings.ReplaceAll(two, "fencing = \"manual\"\n", "") + `[[node]]
name = "gamma"
id = 2
addr = ["10.0.0.3"]
[[fence]]
nodes = ["alpha", "beta", "gamma"]
agent = "fence_x"
`
	_, err := Parse("quorate.toml", []byte(text))
	if want := `quorate.toml:14: id 2 is also that of node "beta": every node needs its own`; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestSyntaxSaysWhatToWrite(t *testing.T) {
	for text, want := range map[string]string{
		"[cluster]\nname =\n":              `quorate.toml:2: not TOML: expected value but found '\n' instead: write key = value,`,
		"[cluster]\nname = tank\n":         `addr = ["10.0.0.1"]`,
		"[cluster]\nname=\"a\"\n[cluster]": ": write it once; sections that repeat",
	} {
		if _, err := Parse("quorate.toml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
