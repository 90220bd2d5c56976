package accept

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/tools/chaos"
	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab"
)

// nemesis runs tools/chaos as `make chaos` does.
func nemesis(t *testing.T, opt chaos.Options) chaos.Result {
	t.Helper()
	if os.Getenv(lab.EnvGate) != "1" {
		t.Skipf("%s is not 1: these stories boot real kernels, as root", lab.EnvGate)
	}
	opt.Log, opt.Out = testLog{t}, filepath.Join("..", "..", "out")
	res, err := chaos.Run(t.Context(), opt)
	t.Log(res)
	if err != nil {
		t.Log(err)
	}
	if err != nil && len(res.Violations) == 0 {
		t.FailNow()
	}
	return res
}

// TestChaos: three minutes of faults at random, the same ones each time.
func TestChaos(t *testing.T) {
	res := nemesis(t, chaos.Options{Seed: 11, For: 3 * time.Minute})
	for _, v := range res.Violations {
		t.Error(v)
	}
	if res.Rounds == 0 || res.Faults == 0 || res.Ops == 0 {
		t.Error("nothing was done")
	}
}

// TestChaosNotices: daemons that leave out a safety rule do not get through. One of
// them is enough, unless QUORATE_FULL is 1.
func TestChaosNotices(t *testing.T) {
	bugs := []struct {
		bug, rule   string
		seed, round int // one that needs the rule
	}{
		{"skip-fence", "I3 fence-before-recover", 2, 2}, {"skip-stop", "I2 stop-before-start", 2, 2}, {"skip-quorum", "I4 quorum-before-start", 76, 6},
	}
	if !full() {
		bugs = bugs[:1]
	}
	for _, c := range bugs {
		t.Run(c.bug, func(t *testing.T) {
			res := nemesis(t, chaos.Options{Seed: uint64(c.seed), Round: c.round, For: time.Minute, Bug: c.bug})
			if !slices.ContainsFunc(res.Violations, func(v cluster.Violation) bool { return v.Rule == c.rule }) {
				t.Errorf("%s was not noticed as %s: %v", c.bug, c.rule, res.Violations)
			}
		})
	}
}
