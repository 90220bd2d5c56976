package dlmaddr

import (
	"fmt"
	"net/netip"
	"slices"
)

// Interface is the name of the dummy interface.
const Interface = "quorate-dlm"

// What marks this package's routes, and how they rank.
const (
	Protocol    = 113 // of the routes: who made them (rtnetlink(7), RTPROT_*)
	Metric      = 64
	GuardMetric = 4096
)

// Wanted is what this node's kernel should have.
type Wanted struct {
	Self    netip.Addr   // this node's stable address
	Network netip.Prefix // that of all nodes
	Routes  []Route      // to the others
}

// Route is the way to a peer's stable address.
type Route struct {
	To   netip.Addr
	Via  netip.Addr // the peer's own address on the link
	From netip.Addr // this node's address on the link, which says which interface it is
}

// Have is what the kernel has.
type Have struct {
	Holder  string         // interface, set up, that has the stable address; empty: none
	Strange []netip.Prefix // other addresses on the dummy interface: of another configuration
	Guard   bool
	Routes  []Installed // with Protocol, the guard left out
	Links   map[netip.Addr]Link
}

// Link is the interface that has an address.
type Link struct {
	Index int
	Up    bool
}

// Installed is a route of the kernel's.
type Installed struct {
	Dst      netip.Prefix
	Via, Src netip.Addr
	Link     int
	Metric   int
}

// Kind is the kind of an Op.
type Kind string

// The kinds.
const (
	AddAddress Kind = "address"
	DelAddress Kind = "no address"
	AddGuard   Kind = "guard"
	DelGuard   Kind = "no guard"
	SetRoute   Kind = "route" // makes it, or replaces the one that is there
	DelRoute   Kind = "no route"
)

// Op is one change of the kernel's tables.
type Op struct {
	Kind     Kind
	Dst      netip.Prefix
	Via, Src netip.Addr
	Link     int
	Metric   int
}

func (o Op) String() string {
	switch o.Kind {
	case SetRoute:
		return fmt.Sprintf("%s %s via %s dev %d src %s", o.Kind, o.Dst, o.Via, o.Link, o.Src)
	case DelRoute:
		return fmt.Sprintf("%s %s metric %d", o.Kind, o.Dst, o.Metric)
	}
	return fmt.Sprintf("%s %s", o.Kind, o.Dst)
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// Plan says what to do, in order, and in words which routes cannot be made.
func Plan(have Have, want Wanted) (ops []Op, cannot []string) {
	if have.Holder == "" {
		ops = append(ops, Op{Kind: AddAddress, Dst: host(want.Self)})
	}
	for _, p := range have.Strange {
		ops = append(ops, Op{Kind: DelAddress, Dst: p})
	}
	if !have.Guard {
		ops = append(ops, Op{Kind: AddGuard, Dst: want.Network, Metric: GuardMetric})
	}
	for _, r := range want.Routes {
		link, ok := have.Links[r.From]
		if !ok || !link.Up {
			what := "does not have its address"
			if ok {
				what = "has set the interface down that has its address"
			}
			cannot = append(cannot, fmt.Sprintf("no route to %s: this node %s %s", r.To, what, r.From))
			continue
		}
		is := Installed{Dst: host(r.To), Via: r.Via, Src: want.Self, Link: link.Index, Metric: Metric}
		if !slices.Contains(have.Routes, is) {
			ops = append(ops, Op{Kind: SetRoute, Dst: is.Dst, Via: is.Via, Src: is.Src, Link: is.Link, Metric: Metric})
		}
	}
	for _, r := range have.Routes {
		wanted := func(w Route) bool { return host(w.To) == r.Dst && r.Metric == Metric }
		if !slices.ContainsFunc(want.Routes, wanted) {
			ops = append(ops, Op{Kind: DelRoute, Dst: r.Dst, Metric: r.Metric})
		}
	}
	return ops, cannot
}

// PlanRemoval says how to take everything away again.
func PlanRemoval(have Have, want Wanted) (ops []Op) {
	for _, r := range have.Routes {
		ops = append(ops, Op{Kind: DelRoute, Dst: r.Dst, Metric: r.Metric})
	}
	if have.Guard {
		ops = append(ops, Op{Kind: DelGuard, Dst: want.Network, Metric: GuardMetric})
	}
	for _, p := range have.Strange {
		ops = append(ops, Op{Kind: DelAddress, Dst: p})
	}
	if have.Holder == Interface || have.Holder == loopback {
		ops = append(ops, Op{Kind: DelAddress, Dst: host(want.Self)})
	}
	return ops
}
