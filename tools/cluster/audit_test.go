package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/tools/lab"
	"github.com/quorate/quorate/tools/lab/fencedev"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// tape makes up event logs. Each line is one event that nodes told, a
// hundredth of a second after the line before it:
//
//	NODES KIND [#INDEX] [~SUBJECT] [LOCKSPACE/CHANGE] [+SECONDS] [= TEXT]
//
// NODES is 123 for nodes 1, 2 and 3. A line "pass 2s" lets time pass.
type tape struct {
	at  time.Time
	seq map[int]uint64
	all []Event
}

func record(t *testing.T, lines string) []Event {
	t.Helper()
	p := tape{at: t0, seq: map[int]uint64{}}
	for l := range strings.Lines(lines) {
		if l = strings.TrimSpace(l); l != "" {
			p.line(t, l)
		}
	}
	return p.all
}

func (p *tape) line(t *testing.T, l string) {
	t.Helper()
	head, text, _ := strings.Cut(l, "= ")
	f := strings.Fields(head)
	if f[0] == "pass" {
		d, err := time.ParseDuration(f[1])
		if err != nil {
			t.Fatal(err)
		}
		p.at = p.at.Add(d)
		return
	}
	p.at = p.at.Add(10 * time.Millisecond)
	for _, n := range f[0] {
		node := int(n - '0')
		e := Event{At: p.at, Node: node}
		e.Kind, e.Text = membership.Kind(f[1]), text
		if e.Kind == membership.KindUp {
			p.seq[node] = 0
		}
		for _, w := range f[2:] {
			p.word(t, &e, w)
		}
		p.seq[node]++
		e.Seq = p.seq[node]
		p.all = append(p.all, e)
	}
}

func (p *tape) word(t *testing.T, e *Event, w string) {
	t.Helper()
	var err error
	switch w[0] {
	case '#':
		_, err = fmt.Sscanf(w, "#%d", &e.Index)
	case '~':
		_, err = fmt.Sscanf(w, "~%d", &e.Subject)
	case 'v':
		_, err = fmt.Sscanf(w, "v%d", &e.View)
	case '!': // events of that node before this one were lost
		p.seq[e.Node] += 3
	default:
		ls, n, _ := strings.Cut(w, "/")
		e.Lockspace = ls
		if n != "" {
			_, err = fmt.Sscan(n, &e.Change)
		}
	}
	if err != nil {
		t.Fatalf("%s: %v", w, err)
	}
}

// calm: three nodes form a cluster and run a lockspace. Node 3 dies, is fenced
// and comes back.
const (
	formed = `
123 up
123 view #1 v1 = members [1], no quorum yet
123 view #2 v2 = members [1 2]
123 view #3 v3 = members [1 2 3]
`
	mounted = formed + `
123 join gfs
123 change #4 gfs/1 = stop [], then members [1 2 3]
123 opened #4 gfs/1 = members [1 2 3]
123 started gfs/1
123 recovered gfs/1
123 joined gfs/1
123 done #8 gfs/1 = members [1 2 3]
pass 1s
`
	lost = mounted + `
12 evicted #10 ~3 = 3/cccc3333#0 silent; its death needs proof
12 view #10 v4 = members [1 2]
12 change #10 gfs/2 = stop [1 2], then members [1 2]
`
	stopped  = `12 stopped gfs/1` + "\n"
	proved   = `12 fenced #13 ~3 = 3/cccc3333#0 is gone: agent, by node 1` + "\n"
	started2 = `
12 opened #13 gfs/2 = members [1 2]
12 started gfs/2
12 recovered gfs/2
`
	back = `
3 up
123 view #20 v5 = members [1 2 3]
3 join gfs
123 change #21 gfs/3 = stop [1 2], then members [1 2 3]
12 stopped gfs/2
123 opened #23 gfs/3 = members [1 2 3]
123 started gfs/3
3 joined gfs/3
pass 3s
1 leader
`
)

// died is the end of node 3 a moment before its eviction.
func died(boot string, after time.Duration) map[int][]lab.Death {
	at := t0.Add(after)
	w := lab.Writes{Calls: 7}
	return map[int][]lab.Death{3: {{BootID: boot, Asked: at, Frozen: at, AtFreeze: w, AtKill: w, Gone: at.Add(time.Second)}}}
}

func TestAuditPasses(t *testing.T) {
	for name, tape := range map[string]string{
		"a death":                      lost + stopped + proved + started2 + back,
		"a proof before the last stop": lost + "1 stopped gfs/1\n" + proved + "2 stopped gfs/1\n" + started2 + back,
		"a clean leave": mounted + `
			3 leave gfs/1
			123 change #10 gfs/2 = stop [1 2 3], then members [1 2]
			123 stopped gfs/1
			123 opened #14 gfs/2 = members [1 2]
			12 started gfs/2
			3 left gfs/1
			123 view #16 v4 = members [1 2]`,
		"a glitch": mounted + `
			123 quorum = [1] connected: 1 of 3 votes, 2 needed: 1 missing
			123 stopped gfs/1
			123 quorum = [1 2 3] connected: 3 of 3 votes, 2 needed
			123 change #10 gfs/2 = stop [1 2 3], then members [1 2 3]
			123 opened #12 gfs/2 = members [1 2 3]
			123 started gfs/2
			pass 5s
			1 leader`,
		"a refused join": formed + `
			12 join gfs
			12 join-failed gfs
			12 join gfs
			12 leave gfs
			12 left gfs`,
		"events that never came":                      lost + "1 stopped gfs/1\n" + proved + "2 opened ! #13 gfs/2 = members [1 2]\n1 opened #13 gfs/2 = members [1 2]\n12 started gfs/2",
		"questions of two lockspaces that never came": formed + "12 leader ! = node1: term 2\n12 joined gfs\n12 joined chaos",
	} {
		t.Run(name, func(t *testing.T) {
			r := Record{Nodes: 3, Events: record(t, tape), Deaths: died("cccc3333-4444", 1100*time.Millisecond)}
			for _, v := range r.Audit() {
				t.Error(v)
			}
		})
	}
}

// Each rule, broken once.
func TestAuditFinds(t *testing.T) {
	for name, c := range map[string]struct{ rule, text, tape string }{
		"two views of one number":       {"I1 one-primary", "view 4 has", lost + "3 view #11 v4 = members [1 3]"},
		"two entries of one index":      {"I1 one-primary", "entry 10 is", lost + "3 evicted #10 ~3 = another"},
		"started while another runs":    {"I1 one-primary", "which is not in it", mounted + "12 change #10 gfs/2 = stop [1 2], then members [1 2]\n" + stopped + "12 opened #13 gfs/2 = members [1 2]\n12 started gfs/2"},
		"opened while it runs":          {"I2 stop-before-start", "had not stopped", lost + "1 stopped gfs/1\n" + proved + started2},
		"started twice without a stop":  {"I2 stop-before-start", "had not stopped for it", mounted + "3 started gfs/1"},
		"opened without proof":          {"I3 fence-before-recover", "before the proof", lost + stopped + started2},
		"proof of one who lives":        {"I3 fence-before-recover", "it never died", strings.ReplaceAll(lost+stopped+proved+started2, "cccc3333", "dddd4444")},
		"opened without quorum":         {"I4 quorum-before-start", "2 of 3 nodes", formed + "1 view #5 v4 = members [1]\n1 join gfs\n1 opened #6 gfs/1 = members [1]"},
		"opened while none is told":     {"I4 quorum-before-start", "2 of 3 nodes", formed + "12 view #5 v4 = members [1 2], no quorum yet\n1 join gfs\n1 opened #6 gfs/1 = members [1]"},
		"opened with a stranger":        {"I4 quorum-before-start", "not in the view", formed + "12 view #5 v4 = members [1 2]\n1 join gfs\n1 opened #6 gfs/1 = members [1 3]"},
		"running without quorum":        {"I4 quorum-before-start", "lost its quorum", mounted + "1 quorum = [1] connected: 1 of 3 votes, 2 needed: 1 missing\npass 4s\n1 leader"},
		"opened twice":                  {"I5 same-members", "opened twice", mounted + "123 opened #9 gfs/1 = members [1 2]"},
		"started what nobody opened":    {"I5 same-members", "node 1 started gfs/7", formed + "1 join gfs\n1 started gfs/7"},
		"started without being in it":   {"I5 same-members", "node 3 started gfs/2", lost + stopped + proved + started2 + "3 stopped gfs/1\n3 started gfs/2"},
		"a join answered twice":         {"I6 one-answer", "an answered join", mounted + "2 joined gfs/1"},
		"a leave that nobody asked for": {"I6 one-answer", "an answered leave", mounted + "2 left gfs/1"},
		"two joins at once":             {"I6 one-answer", "a second join", formed + "2 join gfs\n2 join gfs"},
		"a member without proof":        {"I7 no-zombie", "node 3 is in view 5", lost + "12 view #12 v5 = members [1 2 3]"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Record{Nodes: 3, Events: record(t, c.tape), Deaths: died("cccc3333-4444", 1100*time.Millisecond)}
			if strings.Contains(name, "another runs") {
				r.Deaths = nil
			}
			has(t, r.Audit(), c.rule, c.text)
		})
	}
}

func has(t *testing.T, got []Violation, rule, text string) {
	t.Helper()
	if !slices.ContainsFunc(got, func(v Violation) bool { return v.Rule == rule && strings.Contains(v.Text, text) }) {
		t.Errorf("no %q with %q among %v", rule, text, got)
	}
}

func TestAuditOfDeaths(t *testing.T) {
	events := record(t, lost+stopped+proved+started2)
	r := Record{Nodes: 3, Events: events, Deaths: died("cccc3333-4444", 5*time.Second)}
	has(t, r.Audit(), "I3 fence-before-recover", "it died at")
	r.Deaths = died("cccc3333-4444", time.Second)
	r.Deaths[3][0].AtKill.Calls++
	has(t, r.Audit(), "I3 fence-before-recover", "it wrote afterwards")
	r.Deaths[3][0].Uncounted = errors.New("no such file")
	has(t, r.Audit(), "I3 fence-before-recover", "could not be counted")
}

// A shot at a life that was evicted is in order, at the one after it is not.
func TestAuditOfShots(t *testing.T) {
	r := Record{Nodes: 3, Events: record(t, lost+stopped+proved+started2+back), Deaths: died("cccc3333-4444", 1100*time.Millisecond)}
	shot := r.Deaths[3][0].Asked
	r.Power = []fencedev.Record{{Plug: 3, Action: fencedev.Off, Asked: shot.Add(-time.Millisecond), Done: shot.Add(time.Millisecond)}}
	for _, v := range r.Audit() {
		t.Error(v)
	}
	late := r.Events[len(r.Events)-1].At.Add(time.Second) // node 3 runs gfs/3 then
	r.Deaths[3] = append(r.Deaths[3], lab.Death{BootID: "dddd4444-5555", Asked: late, Frozen: late})
	r.Power = append(r.Power, fencedev.Record{Plug: 3, Action: fencedev.Off, Asked: late.Add(-time.Second), Done: late.Add(time.Millisecond)})
	has(t, r.Audit(), "stray shot", "3/dddd4444")
}

// A node that stood still could not stop.
func TestAuditExcusesTheFrozen(t *testing.T) {
	r := Record{Nodes: 3, Events: record(t, mounted+"1 quorum = [1] connected: 1 of 3 votes, 2 needed: 1 missing\npass 4s\n1 leader")}
	r.Frozen = []Pause{{Node: 1, From: r.Events[len(r.Events)-2].At, To: r.Events[len(r.Events)-1].At}}
	for _, v := range r.Audit() {
		t.Error(v)
	}
}

// A witness is a vote, and no more than one.
func TestAuditCountsTheWitness(t *testing.T) {
	events := record(t, formed+"12 view #5 v4 = members [1 2]\n1 join gfs\n1 opened #6 gfs/1 = members [1]")
	for _, c := range []struct {
		nodes   int
		witness bool
		want    bool
	}{{3, false, true}, {3, true, true}, {4, false, false}, {4, true, true}, {5, false, false}, {5, true, false}} {
		r := Record{Nodes: c.nodes, Events: events, Witness: c.witness}
		if got := !slices.ContainsFunc(r.Audit(), func(v Violation) bool { return strings.Contains(v.Text, "nodes are needed") }); got != c.want {
			t.Errorf("two of %d nodes, witness %v: enough %v", c.nodes, c.witness, got)
		}
	}
}

func TestGaps(t *testing.T) {
	r := Record{Events: record(t, formed+"1 leader !\n2 leader\n3 up\n3 leader !")}
	if got := r.Gaps(); got != 6 {
		t.Errorf("%d gaps", got)
	}
}

func TestKernelFaults(t *testing.T) {
	log := `[    3.2] dlm: gfs: joining the lockspace group...
[    3.3] dlm: closing connection to node 2
[    3.4] dlm: gfs: no userland control daemon, stopping lockspace
[    3.5] dlm: gfs: group join failed -110 0
[    3.6] gfs2: fsid=lab:gfs: dlm_new_lockspace error -110
[    3.7] gfs2: fsid=lab:gfs.1: jid=2: Busy
[    4.1] dlm: gfs: remwait error 1a remote 2 3 msg 4 flags 0 no wait
[    4.2] dlm: gfs: receive_request_reply 3 error -22
[    4.3] dlm: invalid h_nodeid 3 from 2 lockspace 1
[    4.4] DLM:  Assertion failed on line 7 of file fs/dlm/lock.c
[    4.5] gfs2: fsid=lab:gfs.0: about to withdraw this file system
[    4.6] gfs2: fsid=lab:gfs.0: Error -5 writing to journal, jid=1
[    4.7] ------------[ cut here ]------------
[    4.8] blk_update_request: I/O error, dev ubda, sector 8
`
	got := KernelFaults(log)
	if len(got) != 8 || !strings.Contains(got[0], "remwait error") {
		t.Errorf("%d faults:\n%s", len(got), strings.Join(got, "\n"))
	}
}

func counted(numbers ...uint64) []Event {
	var out []Event
	for i, n := range numbers {
		out = append(out, Event{Node: 1 + i%3, Told: "counted", Number: n})
	}
	return out
}

func TestAuditCounter(t *testing.T) {
	failed := counted(1)
	failed[0].Told, failed[0].Text = "count-error", "the disk says 7"
	for _, c := range []struct {
		told  []Event
		disk  uint64
		ended int
		lost  int
		want  string // of the violation; empty: none
	}{
		{counted(1, 2, 3), 3, 0, 0, ""},
		{counted(1, 2, 3, 5), 5, 1, 0, ""},
		{counted(1, 2, 3), 3, 1, 0, ""},
		{counted(1, 2, 4), 4, 0, 1, ""}, // 3 was made, and nobody heard of it
		{counted(2, 4), 6, 1, 3, ""},
		{counted(1, 2, 2, 3), 3, 0, 0, "both counted up to 2"},
		{counted(1, 2, 2, 5), 5, 0, 2, "both counted up to 2"},
		{counted(1, 2, 3), 2, 0, 0, "on the disk is 2"},
		{failed, 0, 0, 0, "the disk says 7"},
	} {
		got, lost := AuditCounter(c.told, c.disk, c.ended)
		if lost != c.lost || c.want == "" && len(got) != 0 {
			t.Errorf("%+v: %v, and %d lost", c, got, lost)
		}
		if c.want != "" {
			has(t, got, "lock", c.want)
		}
	}
}

func TestFencedBeforeStart(t *testing.T) {
	for name, c := range map[string]struct{ tape, want string }{
		"in order":        {lost + stopped + proved + started2, ""},
		"before proof":    {lost + stopped + started2, "before the proof of node3"},
		"one never began": {lost + stopped + proved + "12 opened #13 gfs/2 = members [1 2]\n1 started gfs/2", "node2: proof true, opened true, started false"},
	} {
		all := record(t, c.tape)
		evicted := slices.IndexFunc(all, func(e Event) bool { return e.Kind == membership.KindEvicted })
		err := FencedBeforeStart(all, 3, all[evicted].At, []int{1, 2})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
