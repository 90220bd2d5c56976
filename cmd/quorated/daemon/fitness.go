package daemon

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/fit"
	"github.com/quorate/quorate/cmd/quorated/node"
)

const (
	fitLook = 2 * time.Second
	// longFit bounds what is told of it; namedUnfit is how many nodes are named.
	longFit    = 300
	namedUnfit = 3
)

// watchFitness has the others told whether this node is fit for profile lan, when that changes.
func (d *Daemon) watchFitness(ctx context.Context) error {
	machine, said := fit.Machine(os.DirFS("/")), ""
	tick := time.NewTicker(fitLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if now := fitness(machine, d.weaknesses(), d.reflectors()); now != said {
			d.post(node.FitFor{Lan: now})
			said = now
		}
	}
}

func fitness(machine string, weak []string, reflectors []control.Reflector) string {
	links := make([]fit.Link, len(reflectors))
	for i, x := range reflectors {
		links[i] = fit.Link{Interface: x.Interface, Parent: x.Parent, Kernel: x.Mode != userspace, Why: x.Why}
	}
	why := fit.Lan(machine, weak, links)
	if why == "" {
		return node.Fit
	}
	return why[:min(len(why), longFit)]
}

// unfitNodes are the nodes that have said that they are not fit for lan, and why, and the names
// of those that have said nothing.
func unfitNodes(nodes []control.NodeStatus) (why string, unknown []string) {
	var unfit []string
	for _, n := range nodes {
		switch n.Lan {
		case node.Fit:
		case "":
			unknown = append(unknown, n.Name)
		default:
			unfit = append(unfit, n.Name+" is not: "+n.Lan)
		}
	}
	if more := len(unfit) - namedUnfit; more > 0 {
		unfit = append(unfit[:namedUnfit], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(unfit, "; "), unknown
}

// autoWhy says why profile "auto" is what it is, by what the nodes have said of themselves.
func autoWhy(nodes []control.NodeStatus) string {
	switch unfit, unknown := unfitNodes(nodes); {
	case unfit != "":
		return "auto: safe; lan is for nodes that are all fit for it: " + unfit
	case len(unknown) > 0:
		return "auto: safe; whether all nodes are fit for lan is not known of " + strings.Join(unknown, ", ")
	}
	return `auto: safe, and all nodes are fit for lan: write profile = "lan" under [liveness], and run "quorate config apply"`
}
