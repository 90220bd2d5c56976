package liveness

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quorate/quorate/membership"
)

// TestScenarios tells the stories under testdata/liveness at the repository's
// root; `go test -rewrite` writes them anew.
//
//	cluster nodes=3 profile=lan [links=2] [seed=1] [commit] [admit]
//	run 1s [quiet]            what every node says meanwhile
//	kill 3                    the machine loses power
//	cut 1 2 [link=0]          both directions; heal takes every cut away
//	oneway 1 2                packets from 1 to 2 are lost
//	halves 1 2 / 3 4          cut every pair across the slash
//	halt 2 [500ms]            its daemon does not run, its kernel answers
//	freeze 2 500ms            its kernel does not answer either
//	hold 2 5s                 an announced freeze
//	late 2 1 500ms            rows from 2 to 1 take so long
//	log 2 3 40                the end of node 2's log: term, index
//	weight 1=2 3=4            lockspaces held
//	wait 2                    a lockspace change waits for node 2
//	status 1                  what node 1 would show
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "../../testdata/liveness", func(t *testing.T, file string) {
		var c *cluster
		datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "cluster" {
				c = clusterOf(t, d)
				return ""
			}
			return c.command(t, d)
		})
	})
}

func clusterOf(t *testing.T, d *datadriven.TestData) *cluster {
	nodes, links, seed, prof := 3, 1, 1, "lan"
	d.MaybeScanArgs(t, "nodes", &nodes)
	d.MaybeScanArgs(t, "links", &links)
	d.MaybeScanArgs(t, "seed", &seed)
	d.MaybeScanArgs(t, "profile", &prof)
	c := newCluster(nodes, links, profile(prof), uint64(seed))
	c.commit, c.admit = d.HasArg("commit"), d.HasArg("admit")
	if c.admit {
		c.admitter()
	}
	return c
}

func (c *cluster) command(t *testing.T, d *datadriven.TestData) string {
	arg := func(i int) string {
		if i >= len(d.CmdArgs) {
			d.Fatalf(t, "%s: argument %d is missing", d.Cmd, i+1)
		}
		return d.CmdArgs[i].Key
	}
	number := func(i int) uint64 {
		n, err := strconv.ParseUint(arg(i), 10, 32)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		return n
	}
	node := func(i int) membership.NodeID { return membership.NodeID(number(i)) }
	long := func(i int) time.Duration {
		v, err := time.ParseDuration(arg(i))
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		return v
	}
	switch d.Cmd {
	case "run":
		c.quiet, c.lines = d.HasArg("quiet"), nil
		c.run(long(0))
		if c.quiet || len(c.lines) == 0 {
			return ""
		}
		return strings.Join(c.lines, "\n") + "\n"
	case "kill":
		c.host(node(0)).dead = true
	case "cut":
		link := -1
		d.MaybeScanArgs(t, "link", &link)
		if link < 0 {
			c.both(node(0), node(1), true)
		} else {
			c.lost[path{node(0), node(1), link}] = true
		}
	case "oneway":
		for l := range c.links {
			c.lost[path{node(0), node(1), l}] = true
		}
	case "halves":
		c.halves(d)
	case "heal":
		clear(c.lost)
	case "halt":
		if len(d.CmdArgs) == 1 {
			c.halt(node(0), 0)
		} else {
			c.halt(node(0), long(1))
		}
	case "freeze":
		c.freeze(node(0), long(1))
	case "hold":
		for _, h := range c.alive() {
			c.step(h, Hold{Node: node(0), Until: c.now.Add(long(1))})
		}
	case "late":
		c.late[path{node(0), node(1), 0}] = long(2)
	case "log":
		c.step(c.host(node(0)), LogIn{Term: number(1), Index: number(2)})
	case "weight":
		c.weights(d)
	case "wait":
		for _, h := range c.alive() {
			c.step(h, RecoveryWait{Nodes: []membership.NodeID{node(0)}})
		}
	case "status":
		return c.status(c.host(node(0)))
	default:
		d.Fatalf(t, "no command %s", d.Cmd)
	}
	return ""
}

func (c *cluster) halves(d *datadriven.TestData) {
	var sides [2][]membership.NodeID
	side := 0
	for _, a := range d.CmdArgs {
		if a.Key == "/" {
			side = 1
			continue
		}
		n, _ := strconv.Atoi(a.Key)
		sides[side] = append(sides[side], membership.NodeID(n))
	}
	for _, a := range sides[0] {
		for _, b := range sides[1] {
			c.both(a, b, true)
		}
	}
}

func (c *cluster) weights(d *datadriven.TestData) {
	w := map[membership.NodeID]int{}
	for _, a := range d.CmdArgs {
		n, _ := strconv.Atoi(a.Key)
		w[membership.NodeID(n)], _ = strconv.Atoi(a.Vals[0])
	}
	for _, h := range c.alive() {
		c.step(h, ViewIn{View: c.view, Weight: w})
	}
}

func (c *cluster) status(h *host) string {
	j := h.judge
	s := fmt.Sprintf("hears %v suspects %v dead %v rank %d view %d\n", h.m.Hears(), h.m.Suspects(), j.Dead, j.Rank, c.view.Number)
	for _, r := range h.m.Matrix() {
		s += fmt.Sprintf("row %d:", r.From)
		for _, a := range r.Ages {
			s += fmt.Sprintf(" %d:%v", a.Peer, a.Age.Round(time.Millisecond))
		}
		s += "\n"
	}
	return s
}
