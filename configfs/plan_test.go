package configfs_test

import (
	"errors"
	"flag"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/configfs"
	"github.com/quorate/quorate/configfs/configfstest"
)

var rewrite = flag.Bool("rewrite", false, "write the golden plans anew")

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func three() configfs.Tree {
	return configfs.Tree{
		Present: true,
		Attrs:   map[string]string{"cluster_name": "lab", "recover_callbacks": "1", "tcp_port": "21064", "toss_secs": "10"},
		Comms: map[uint32]configfs.Comm{
			1: {Addrs: []netip.Addr{ip("10.0.0.1")}, Local: true},
			2: {Addrs: []netip.Addr{ip("10.0.0.2"), ip("fe80::2%4")}},
			3: {Addrs: []netip.Addr{ip("10.0.0.3")}, Mark: 9},
		},
		Spaces: map[string]configfs.Space{
			"clvmd": {Members: map[uint32]configfs.Member{1: {Weight: 1}, 2: {Weight: 1}}},
			"gfs":   {Members: map[uint32]configfs.Member{1: {Weight: 1}, 2: {Weight: 1}, 3: {Weight: 1}}},
		},
	}
}

func TestPlanGolden(t *testing.T) {
	have := three()
	for name, c := range map[string]struct {
		have configfs.Tree
		want func(*configfs.Tree)
	}{
		"from-nothing":  {configfs.Tree{}, func(*configfs.Tree) {}},
		"to-nothing":    {have, func(w *configfs.Tree) { *w = configfs.Tree{} }},
		"nothing-to-do": {have, func(*configfs.Tree) {}},
		"member-failed": {have, func(w *configfs.Tree) {
			delete(w.Comms, 3)
			delete(w.Spaces["gfs"].Members, 3)
		}},
		"member-failed-release-recover": {have, func(w *configfs.Tree) {
			s := w.Spaces["gfs"]
			delete(s.Members, 3)
			s.Recover = map[uint32]bool{3: true}
			w.Spaces["gfs"] = s
		}},
		"member-left": {have, func(w *configfs.Tree) { delete(w.Spaces["gfs"].Members, 2) }},
		"member-came": {have, func(w *configfs.Tree) {
			w.Comms[4] = configfs.Comm{Addrs: []netip.Addr{ip("10.0.0.4")}}
			w.Spaces["gfs"].Members[4] = configfs.Member{Weight: 2}
		}},
		"member-renewed": {have, func(w *configfs.Tree) {
			w.Comms[2] = configfs.Comm{Addrs: []netip.Addr{ip("10.0.0.2")}, Renew: true}
			w.Spaces["gfs"].Members[2] = configfs.Member{Weight: 1, Renew: true}
		}},
		"address-added": {have, func(w *configfs.Tree) {
			w.Comms[3] = configfs.Comm{Addrs: []netip.Addr{ip("10.0.0.3"), ip("10.1.0.3")}, Mark: 9}
		}},
		"address-changed": {have, func(w *configfs.Tree) {
			w.Comms[3] = configfs.Comm{Addrs: []netip.Addr{ip("10.1.0.3")}}
		}},
		"space-left": {have, func(w *configfs.Tree) { delete(w.Spaces, "gfs") }},
		"attributes": {have, func(w *configfs.Tree) { w.Attrs["log_debug"] = "1"; w.Attrs["cluster_name"] = "other" }},
	} {
		t.Run(name, func(t *testing.T) {
			want := three()
			c.want(&want)
			ops, err := configfs.Plan(c.have, want)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name, configfs.Text(ops))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "plan", name+".txt")
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the plan is\n%swant\n%s", got, want)
	}
}

func TestPlanRefuses(t *testing.T) {
	want := three()
	delete(want.Comms, 1)
	if _, err := configfs.Plan(three(), want); !errors.Is(err, configfs.ErrLocalComm) {
		t.Errorf("the local comm with spaces: %v", err)
	}
	want = three()
	want.Comms[1] = configfs.Comm{Addrs: []netip.Addr{ip("10.0.0.9")}, Local: true}
	if _, err := configfs.Plan(three(), want); !errors.Is(err, configfs.ErrLocalComm) {
		t.Errorf("another local address with spaces: %v", err)
	}
	want = three()
	want.Comms[3] = configfs.Comm{}
	if _, err := configfs.Plan(three(), want); !errors.Is(err, configfs.ErrAddr) {
		t.Errorf("a comm without address: %v", err)
	}
	want = three()
	want.Spaces["a/b"] = configfs.Space{}
	if _, err := configfs.Plan(three(), want); !errors.Is(err, configfs.ErrName) {
		t.Errorf("a name with a slash: %v", err)
	}
}

// Any plan, applied to a kernel's tree, leads to the wanted tree, and never
// breaks a rule of order.
func TestPlanProperty(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		k := []configfstest.Kernel{configfstest.Linux6_1, configfstest.Linux6_18}[seed%2]
		fs := configfstest.NewFake(k)
		for range 6 {
			step(t, seed, r, fs)
		}
	}
}

func step(t *testing.T, seed uint64, r *rand.Rand, fs *configfstest.Fake) {
	t.Helper()
	have, err := configfs.ReadTree(fs)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	want := randomTree(r)
	ops, err := configfs.Plan(have, want)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	checkOrder(t, seed, ops)
	if err := configfs.Apply(fs, ops); err != nil {
		t.Fatalf("seed %d: %v\n%s", seed, err, configfs.Text(ops))
	}
	got, err := configfs.ReadTree(fs)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	for id, c := range want.Comms {
		c.Renew = false
		want.Comms[id] = c
	}
	again, err := configfs.Plan(got, want)
	if err != nil || len(again) != 0 {
		t.Fatalf("seed %d: not there yet: %v\n%s", seed, err, configfs.Text(again))
	}
}

// checkOrder: the node id is the first write to a directory, and no comm is
// removed after a member was made.
func checkOrder(t *testing.T, seed uint64, ops []configfs.Op) {
	t.Helper()
	grown := false
	for i, o := range ops {
		if o.Kind == configfs.Mkdir && (strings.Contains(o.Path, "/comms/") || strings.Contains(o.Path, "/nodes/")) {
			if i+1 == len(ops) || ops[i+1].Path != o.Path+"/nodeid" {
				t.Fatalf("seed %d: no node id after %s", seed, o)
			}
		}
		grown = grown || o.Kind == configfs.Mkdir && strings.Contains(o.Path, "/nodes/")
		if o.Kind == configfs.Rmdir && grown {
			t.Fatalf("seed %d: %s after members were made", seed, o)
		}
	}
}

func randomTree(r *rand.Rand) configfs.Tree {
	t := configfs.Tree{Present: r.IntN(10) > 0, Comms: map[uint32]configfs.Comm{}, Spaces: map[string]configfs.Space{}}
	if !t.Present {
		return t
	}
	t.Attrs = map[string]string{"cluster_name": []string{"a", "b"}[r.IntN(2)], "log_debug": []string{"0", "1"}[r.IntN(2)]}
	t.Comms[1] = configfs.Comm{Addrs: []netip.Addr{ip("10.0.0.1")}, Local: true}
	for id := uint32(2); id < 6; id++ {
		if r.IntN(3) == 0 {
			continue
		}
		c := configfs.Comm{Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), 0, byte(id)})}, Renew: r.IntN(4) == 0}
		if r.IntN(2) == 0 {
			c.Addrs = append(c.Addrs, netip.AddrFrom4([4]byte{10, 9, 0, byte(id)}))
		}
		t.Comms[id] = c
	}
	for _, ls := range []string{"gfs", "clvmd"} {
		if r.IntN(3) == 0 {
			continue
		}
		s := configfs.Space{Members: map[uint32]configfs.Member{}}
		for _, id := range slices.Sorted(maps.Keys(t.Comms)) {
			if r.IntN(3) > 0 {
				s.Members[id] = configfs.Member{Weight: 1 + r.IntN(2)}
			}
		}
		t.Spaces[ls] = s
	}
	return t
}

func FuzzParseTree(f *testing.F) {
	f.Add("dlm/cluster/=\ndlm/cluster/tcp_port=21064\ndlm/cluster/comms/2/=\ndlm/cluster/comms/2/addr_list=AF_INET\t10.0.0.2\ndlm/cluster/comms/2/mark=3\ndlm/cluster/spaces/gfs/nodes/2/weight=1\n")
	f.Add("dlm/cluster/comms/x/local=1")
	f.Add("dlm/cluster/spaces/gfs/nodes/0/weight=-1")
	f.Fuzz(func(t *testing.T, text string) {
		raw := configfs.Raw{}
		for line := range strings.Lines(text) {
			p, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			raw[p] = v
		}
		tree, err := configfs.ParseTree(raw)
		if err != nil {
			return
		}
		if _, err := configfs.Plan(tree, configfs.Tree{}); err != nil {
			t.Fatalf("what was read cannot be removed: %v", err)
		}
		for id := range tree.Comms {
			if id == 0 {
				t.Fatal("node 0")
			}
		}
	})
}

func FuzzParseSockaddr(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "fe80::1%3"} {
		b, _ := configfs.Sockaddr(ip(s))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := configfs.ParseSockaddr(b)
		if err != nil {
			return
		}
		c, err := configfs.Sockaddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := configfs.ParseSockaddr(c); err != nil || back != a.Unmap() {
			t.Fatalf("%s came back as %s, %v", a, back, err)
		}
	})
}
