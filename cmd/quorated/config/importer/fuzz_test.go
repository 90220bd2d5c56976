package importer_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/config/importer"
)

// seeds adds the samples of a name.
func seeds(f *testing.F, name string) {
	f.Helper()
	for _, dir := range []string{"*", "bad/*"} {
		found, _ := filepath.Glob(filepath.Join(samples, dir, name))
		for _, file := range found {
			if data, err := os.ReadFile(file); err == nil {
				f.Add(data)
			}
		}
	}
}

// holds is what must be true of every outcome: faults that have a place and a text,
// or a file that config takes.
func holds(t *testing.T, fs ...importer.File) {
	t.Helper()
	r, err := importer.Import(fs, options)
	if err == nil {
		accepted(t, string(r.TOML))
		return
	}
	var faults importer.Faults
	if !errors.As(err, &faults) || len(faults) == 0 {
		t.Fatalf("not Faults: %v", err)
	}
	for _, x := range faults {
		if x.Line < 1 || x.Text == "" || strings.ContainsAny(x.Text, "\n\x1b") {
			t.Fatalf("bad fault %+v", x)
		}
	}
}

func FuzzCorosync(f *testing.F) {
	seeds(f, "corosync.conf")
	f.Add([]byte(quorum("auto_tie_breaker: 1\nauto_tie_breaker_node: 3 1")))
	f.Fuzz(func(t *testing.T, data []byte) {
		holds(t, importer.File{Name: "corosync.conf", Data: data})
	})
}

func FuzzDLM(f *testing.F) {
	seeds(f, "dlm.conf")
	f.Add([]byte(each("x:1", "/sbin/fence_x", "passwd=a action=reboot port={id}") + "fence_all y\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		holds(t, importer.File{Name: "corosync.conf", Data: []byte(head + three)}, importer.File{Name: "dlm.conf", Data: data})
	})
}

func FuzzCluster(f *testing.F) {
	seeds(f, "cluster.conf")
	f.Add([]byte(cluster("<cman two_node='1'/>")))
	f.Fuzz(func(t *testing.T, data []byte) {
		holds(t, importer.File{Name: "cluster.conf", Data: append([]byte("<"), data...)})
	})
}

// Whatever stands around it, the value of a secret is nowhere in what comes back.
func TestSecretsStayWhereTheyAre(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := "Xyzzy" + rapid.StringMatching(`[!-~]{0,12}`).Draw(t, "secret")
		key := rapid.SampledFrom([]string{"passwd", "password", "snmp_priv_passwd", "community", "api_key", "token"}).Draw(t, "key")
		agent := rapid.SampledFrom([]string{"fence_x", "/opt/x", "dlm_stonith"}).Draw(t, "agent")
		lines := []string{
			"device d:1 " + agent + " ip=1 " + key + "=" + secret, "connect d:1 node=1 " + key + "=" + secret, "connect d:1 node=2", "connect d:1 node=9 " + key + "=" + secret,
			"", key + "=" + secret, key + " " + secret, "device " + key + "=" + secret, "connect d:1 " + key + "=" + secret, "device d:2 fence_y " + key + " = " + secret,
			"fence_all fence_z " + key + "=" + secret, "unfence d:1", "node " + key + "=" + secret, "lockspace l " + key + "=" + secret,
		}
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(lines), 1, 12).Draw(t, "lines"), "\n")
		r, err := importer.Import([]importer.File{{Name: "a", Data: []byte(head + three)}, {Name: "b", Data: []byte(text)}}, options)
		all := string(r.TOML) + strings.Join(r.Todo, "\n")
		if err != nil {
			all = err.Error()
		} else if _, err := config.Parse("x", r.TOML); err != nil && strings.Contains(err.Error(), "Xyzzy") {
			t.Fatalf("what came of it has a fault with a secret: %v", err)
		}
		if strings.Contains(all, "Xyzzy") {
			t.Fatalf("the secret is in\n%s", all)
		}
	})
}

// A value is the same after both conversions, however it is written.
func TestValuesSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringMatching(`[^\s\v=\x00{}]{1,20}`).Draw(t, "value")
		text := "device d fence_x colour=" + value + "\nconnect d node=1\nconnect d node=2 port=" + value + "\nconnect d node=3\n"
		r, err := importer.Import([]importer.File{{Name: "a", Data: []byte(head + three)}, {Name: "b", Data: []byte(text)}}, options)
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.Parse("x", r.TOML)
		if err != nil {
			t.Fatalf("%v\n%s", err, r.TOML)
		}
		for _, d := range c.Devices {
			if d.Options["colour"] != value || d.Nodes[0] == 2 && d.Options["plug"] != value {
				t.Fatalf("%q became %v", value, d.Options)
			}
		}
	})
}
