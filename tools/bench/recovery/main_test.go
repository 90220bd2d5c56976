package recovery

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/tools/lab"
)

func TestArgs(t *testing.T) {
	var errw bytes.Buffer
	o, err := parseArgs(nil, &errw)
	if err != nil || o.rounds != 5 || o.nodes != 3 || !slices.Equal(o.profiles, []string{"lan", "safe"}) || !slices.Equal(o.settings, []string{"default", "safe"}) || o.kernels != nil || o.out != "out/bench/recovery.json" {
		t.Errorf("%+v %v", o, err)
	}
	o, err = parseArgs([]string{"-rounds", "1", "-nodes", "5", "-profiles", "fast", "-settings", "", "-kernel", "uml-6.1,uml-6.12"}, &errw)
	if err != nil || o.rounds != 1 || o.nodes != 5 || !slices.Equal(o.profiles, []string{"fast"}) || o.settings != nil || len(o.kernels) != 2 {
		t.Errorf("%+v %v", o, err)
	}
	s := o.systems(nil)
	if len(s) != 1 || s[0].Name() != "quorate" || s[0].Setting() != "fast" {
		t.Errorf("%v", s)
	}
}

func TestWrongUsage(t *testing.T) {
	for _, bad := range []string{"-nodes 2", "-nodes 17", "-rounds 0", "-profiles auto", "-settings token50", "-settings default,,safe", "-profiles= -settings=", "-nope", "more"} {
		var out, errw bytes.Buffer
		if code := Main(t.Context(), strings.Fields(bad), &out, &errw); code != 64 || errw.Len() == 0 || out.Len() != 0 {
			t.Errorf("%s: %d %s", bad, code, errw.String())
		}
	}
	var out, errw bytes.Buffer
	if code := Main(t.Context(), []string{"-h"}, &out, &errw); code != 0 || !strings.Contains(errw.String(), "-settings") {
		t.Errorf("%d %s", code, errw.String())
	}
}

// TestIncumbentsFiles: what a setting consists of is compared as a whole.
func TestIncumbentsFiles(t *testing.T) {
	peers := []peer{{1, "node1", "10.77.0.11"}, {2, "node2", "10.77.0.12"}}
	for _, s := range settings {
		golden(t, "incumbent-"+s.name+".conf", []byte(corosyncFile(s, peers)+"---\n"+dlmFile(peers)))
	}
}

// TestOneRound is the smallest run of all, on real kernels.
func TestOneRound(t *testing.T) {
	if os.Getenv(lab.EnvGate) != "1" {
		t.Skipf("%s is not 1: this boots real kernels, as root", lab.EnvGate)
	}
	if os.Getenv("QUORATE_FULL") != "1" {
		t.Skip("QUORATE_FULL is not 1: this is a part of make test-full")
	}
	var out, log bytes.Buffer
	o, err := parseArgs([]string{"-rounds", "1", "-profiles", "safe", "-settings", "safe", "-out", filepath.Join(t.TempDir(), "r.json")}, &log)
	if err != nil {
		t.Fatal(err)
	}
	r, err := o.run(t.Context(), &out, &log)
	t.Logf("%s\n%s", log.String(), out.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range r.Rounds {
		d := x.Death
		if !(0 < d.FenceAskMS && d.FenceAskMS <= d.FencedMS && d.FencedMS <= d.OursMS && d.OursMS < d.FirstMS && d.FirstMS <= d.LastMS) {
			t.Errorf("%s: the steps of the recovery are out of order: %+v", x.System, d)
		}
		if x.QuietMS <= 0 || x.Leave.StallMS <= 0 || x.Join.StallMS <= 0 || x.Leave.TookMS < x.Leave.UnmountMS || x.Join.TookMS <= 0 {
			t.Errorf("%s: %+v", x.System, x)
		}
		if told := d.Told; (x.System == "quorate") != (told != nil) {
			t.Errorf("%s: %+v", x.System, told)
		} else if told != nil && (told.OursMS-d.OursMS > 50 || d.OursMS-told.OursMS > 50) {
			t.Errorf("control=1 at %.0f ms by the kernel's log, at %.0f by the daemons' events", d.OursMS, told.OursMS)
		}
	}
}
