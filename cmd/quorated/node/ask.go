package node

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
)

// askLimit is how long an operator waits for an ask to be agreed.
const askLimit = 10 * time.Second

// ask is a hold, a maintenance or a drain, or the end of one, that an operator wants and
// that is not agreed yet. It is proposed until it is, and answered then.
type ask struct {
	token uint64
	at    membership.Mono
	order cluster.Command
	text  string // the answer when it is agreed
}

func (n *Node) askFor(in Operator, order cluster.Command, text string) {
	n.asks = append(n.asks, ask{in.Token, n.now, order, text})
}

// askName names an operator's request among all that are ever made.
func (n *Node) askName(in Operator) string {
	return fmt.Sprintf("%d/%x/%d", n.cfg.Self, n.id.Instance, in.Token)
}

// askedBy is who wants something, and where.
func (n *Node) askedBy(in Operator) string { return in.Who + " on " + n.cfg.Name(n.cfg.Self) }

// askKey names the entry of an ask among all that are proposed; empty: it is another one.
func askKey(c cluster.Command) string {
	switch {
	case c.Hold != nil:
		return "hold " + c.Hold.Ask
	case c.HoldEnd != nil:
		return fmt.Sprintf("hold-end %d", c.HoldEnd.Index)
	case c.Maintenance != nil:
		return "maintenance " + c.Maintenance.Ask
	case c.MaintenanceEnd != nil:
		return fmt.Sprintf("maintenance-end %d", c.MaintenanceEnd.Index)
	case c.Drain != nil:
		return "drain " + c.Drain.Incarnation.String()
	case c.DrainEnd != nil:
		return "drain-end " + c.DrainEnd.Incarnation.String()
	}
	return ""
}

// proposeAsks proposes what operators asked for here, and gives up after a while.
func (n *Node) proposeAsks() {
	n.asks = slices.DeleteFunc(n.asks, func(a ask) bool {
		if n.now < a.at.Add(askLimit) {
			n.wake(a.at.Add(askLimit))
			n.propose(askKey(a.order), a.order)
			return false
		}
		if a.order.MaintenanceEnd != nil {
			n.endedHere()
			n.do(Reply{Token: a.token, Err: "nobody was there to agree: the maintenance is over for this node alone, which fences others only if it may go on without them; see `quorate quorum`"})
			return true
		}
		if e := a.order.HoldEnd; e != nil && n.releasedHere(e.Incarnation.Node) {
			name := n.cfg.Name(e.Incarnation.Node)
			n.do(Reply{Token: a.token, Err: fmt.Sprintf("nobody was there to agree: the hold of %s is over for this node alone, which fences it only if it may go on without it; see `quorate quorum`", name)})
			return true
		}
		n.do(Reply{Token: a.token, Err: fmt.Sprintf("not agreed within %v: %s; see `quorate why`, and `quorate nodes` for whether it was after all",
			askLimit, cmp.Or(n.group.Status().Waiting, "the entry was not ordered"))})
		return true
	})
}

// answerAsk tells the operator what became of an entry.
func (n *Node) answerAsk(c cluster.Command, o cluster.Outcome) {
	key := askKey(c)
	if key == "" {
		return
	}
	n.asks = slices.DeleteFunc(n.asks, func(a ask) bool {
		if askKey(a.order) != key {
			return false
		}
		r := Reply{Token: a.token, Text: a.text}
		if o.Refused != "" {
			r = Reply{Token: a.token, Err: o.Refused}
		}
		n.do(r)
		return true
	})
}
