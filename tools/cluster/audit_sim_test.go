package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/lab"
	"github.com/quorate/quorate/tools/sim"
)

// simulated is the record of a simulated cluster: whatever goes wrong there, and what
// its nodes tell.
func simulated(seed uint64, bug string) (Record, sim.Result) {
	r := Record{Deaths: map[int][]lab.Death{}}
	res := sim.Run(sim.Options{Seed: seed, Break: bug,
		Told: func(at time.Duration, e membership.Event) {
			r.Events = append(r.Events, Event{At: t0.Add(at), Event: e, Node: int(e.Node)})
		},
		Died: func(at time.Duration, i membership.Incarnation) {
			r.Deaths[int(i.Node)] = append(r.Deaths[int(i.Node)], lab.Death{BootID: string(i.Boot), Frozen: t0.Add(at)})
		}})
	r.Nodes, r.Fewer, r.Witness = res.Nodes, res.Fewer, res.Witness
	return r, res
}

// The audit from outside agrees with the simulator, which looks inside: what is
// well is well, and where a rule is left out it notices.
func TestAuditOfSimulatedClusters(t *testing.T) {
	for seed := range uint64(50) {
		r, res := simulated(seed, "")
		for _, v := range r.Audit() {
			// Simulated kernels may take 20 s to stop a lockspace; real ones do not.
			if !strings.Contains(v.Text, "lost its quorum") && res.Violation == nil {
				t.Errorf("seed %d: %v", seed, v)
			}
		}
	}
	for bug, rule := range map[string]string{"skip-fence": "I3", "skip-stop": "I2", "skip-quorum": "I4"} {
		found := 0
		for seed := range uint64(15) {
			r, _ := simulated(seed, bug)
			for _, v := range r.Audit() {
				if strings.HasPrefix(v.Rule, rule) {
					found++
					break
				}
			}
		}
		t.Logf("%s: noticed in %d of 15 runs", bug, found)
		if found == 0 {
			t.Errorf("%s was never noticed", bug)
		}
	}
}
