package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is what is done to a cluster.
type Kind string

// The kinds of faults.
const (
	Kill       Kind = "kill"        // sudden death; of several, Gap apart
	KillActor  Kind = "kill-actor"  // of a node, and of the one that is fencing it
	LoseState  Kind = "lose-state"  // death, and the state directory is empty when it boots again
	CutNode    Kind = "cut-node"    // from all others
	Halves     Kind = "halves"      // Who are cut from the others
	OneWay     Kind = "one-way"     // what the first sends does not reach the second
	Bridge     Kind = "bridge"      // two hear all others and not each other
	Flap       Kind = "flap"        // cut from all, and not, each for Gap
	Glitch     Kind = "glitch"      // the switch: nobody hears anybody
	ClosePort  Kind = "close-port"  // the DLM's, of one node
	Freeze     Kind = "freeze"      // a node stands still
	DevicesBad Kind = "devices"     // fence devices fail, hang or are slow, and a node dies
	Leave      Kind = "clean-leave" // unmount and leave
	ClockStep  Kind = "clock-step"  // of a node's wall clock
)

// DeadAfter is after how much silence the nodes hold a peer for dead. The
// faults last for less than that, for about as long, or for longer.
const DeadAfter = 2 * time.Second

// Pick says which node is meant: one by its number, or who has that role then.
type Pick struct {
	Node int    // 0: by role
	Role string // leader or follower
}

func (p Pick) String() string {
	if p.Node != 0 {
		return fmt.Sprintf("node%d", p.Node)
	}
	return p.Role
}

// Fault is one of them.
type Fault struct {
	Kind Kind
	At   time.Duration // after the round's begin
	For  time.Duration // 0 for what ends with the round's faults
	Gap  time.Duration // between two deaths, or two turns of a link that flaps
	Step time.Duration // of a clock
	Mode string        // of the devices: fail, hang or slow
	Who  []Pick
}

func (f Fault) String() string {
	s := fmt.Sprintf("+%v %s", f.At, f.Kind)
	if f.Mode != "" {
		s += " " + f.Mode
	}
	for _, w := range f.Who {
		s += " " + w.String()
	}
	if f.Gap != 0 {
		s += fmt.Sprintf(" %v apart", f.Gap)
	}
	if f.Step != 0 {
		s += fmt.Sprintf(" by %v", f.Step)
	}
	if f.For != 0 {
		s += fmt.Sprintf(" for %v", f.For)
	}
	return s
}

// Round is the plan of one round.
type Round struct {
	Number int
	Faults []Fault
	End    time.Duration // all faults end, and everything has to run again
}

func (r Round) String() string {
	var all []string
	for _, f := range r.Faults {
		all = append(all, f.String())
	}
	return fmt.Sprintf("round %d: %s; +%v all ends", r.Number, strings.Join(all, "; "), r.End)
}

// family: two faults of one family do not go together in a round. There is one
// set of cuts, one state of the devices; and each death more costs the time of a boot.
func family(k Kind) string {
	switch k {
	case Kill, KillActor, LoseState, DevicesBad:
		return "death"
	case CutNode, Halves, OneWay, Bridge, Flap, Glitch, ClosePort:
		return "network"
	}
	return string(k)
}

// deck is what the rounds' first faults are dealt from, so that few rounds see
// many kinds.
var deck = []func(*dealer) Fault{
	(*dealer).killLeader, (*dealer).killFollower, (*dealer).killTwo, (*dealer).killActor, (*dealer).loseState, (*dealer).devices,
	(*dealer).cutNode, (*dealer).halves, (*dealer).oneWay, (*dealer).bridge, (*dealer).flap, (*dealer).glitch, (*dealer).closePort,
	(*dealer).freezeShort, (*dealer).freezeLong, (*dealer).leave, (*dealer).clock,
}

// dealer draws the faults of one round.
type dealer struct {
	src   *rand.PCG
	nodes int
}

// n draws 0 to below m. Uint64 of a PCG is the same for ever, which is not
// promised of what math/rand/v2 makes of it.
func (d *dealer) n(m int) int { return int(d.src.Uint64() % uint64(m)) }

// between draws a duration of whole hundredths of a second.
func (d *dealer) between(lo, hi time.Duration) time.Duration {
	const grain = 10 * time.Millisecond
	return lo + time.Duration(d.n(int((hi-lo)/grain)+1))*grain
}

func (d *dealer) shuffle(n int) []int {
	out := make([]int, n)
	for i := range out {
		k := d.n(i + 1)
		out[i], out[k] = out[k], i
	}
	return out
}

// Draw is the plan of a round, from 1, of a cluster of that many nodes.
func Draw(seed uint64, round, nodes int) Round {
	hand := (round - 1) / len(deck)
	order := (&dealer{rand.NewPCG(seed, uint64(hand)), nodes}).shuffle(len(deck))
	d := &dealer{rand.NewPCG(seed, 1<<32+uint64(round)), nodes}
	r := Round{Number: round, Faults: []Fault{deck[order[(round-1)%len(deck)]](d)}}
	for len(r.Faults) < 3 && d.n(5) < 2 {
		f := deck[d.n(len(deck))](d)
		if !slices.ContainsFunc(r.Faults, func(o Fault) bool { return family(o.Kind) == family(f.Kind) }) {
			f.At = [...]time.Duration{0, 50 * time.Millisecond, d.between(0, 500*time.Millisecond), d.between(0, 4*time.Second)}[d.n(4)]
			r.Faults = append(r.Faults, f)
		}
	}
	for _, f := range r.Faults {
		r.End = max(r.End, f.At+f.For+f.Gap)
	}
	r.End += d.between(DeadAfter/2, 3*DeadAfter)
	return r
}

func (d *dealer) node() Pick { return Pick{Node: 1 + d.n(d.nodes)} }

// some are different nodes.
func (d *dealer) some(n int) []Pick {
	var out []Pick
	for _, i := range d.shuffle(d.nodes)[:n] {
		out = append(out, Pick{Node: i + 1})
	}
	return out
}

var (
	leader   = Pick{Role: "leader"}
	follower = Pick{Role: "follower"}
)

func (d *dealer) killLeader() Fault   { return Fault{Kind: Kill, Who: []Pick{leader}} }
func (d *dealer) killFollower() Fault { return Fault{Kind: Kill, Who: []Pick{follower}} }

func (d *dealer) killTwo() Fault {
	who := [][]Pick{{leader, follower}, {follower, leader}, d.some(2)}[d.n(3)]
	return Fault{Kind: Kill, Who: who, Gap: [...]time.Duration{0, 50 * time.Millisecond, 500 * time.Millisecond, d.between(0, 3*time.Second)}[d.n(4)]}
}

func (d *dealer) killActor() Fault {
	return Fault{Kind: KillActor, Who: []Pick{follower}, Gap: d.between(0, 2*time.Second), For: 3*time.Second + DeadAfter}
}

func (d *dealer) loseState() Fault { return Fault{Kind: LoseState, Who: []Pick{d.node()}} }

func (d *dealer) devices() Fault {
	return Fault{Kind: DevicesBad, Mode: [...]string{"fail", "hang", "slow"}[d.n(3)], Who: []Pick{d.node()}, For: d.between(DeadAfter*3/2, DeadAfter*5)}
}

// about draws a duration by dead_after: shorter, about as long, or longer.
func (d *dealer) about() time.Duration {
	return [...]time.Duration{d.shorter(), d.between(DeadAfter*3/4, DeadAfter*3/2), d.longer()}[d.n(3)]
}

func (d *dealer) shorter() time.Duration { return d.between(DeadAfter/10, DeadAfter*3/4) }
func (d *dealer) longer() time.Duration  { return d.between(DeadAfter*3/2, DeadAfter*4) }

func (d *dealer) cutNode() Fault {
	return Fault{Kind: CutNode, Who: []Pick{[...]Pick{leader, follower, d.node()}[d.n(3)]}, For: d.about()}
}

func (d *dealer) halves() Fault {
	return Fault{Kind: Halves, Who: d.some(1 + d.n(d.nodes-1)), For: d.about()}
}

func (d *dealer) oneWay() Fault { return Fault{Kind: OneWay, Who: d.some(2), For: d.about()} }
func (d *dealer) bridge() Fault { return Fault{Kind: Bridge, Who: d.some(2), For: d.about()} }

func (d *dealer) flap() Fault {
	return Fault{Kind: Flap, Who: []Pick{d.node()}, For: d.between(2*DeadAfter, 4*DeadAfter), Gap: [...]time.Duration{DeadAfter / 4, DeadAfter * 5 / 4}[d.n(2)]}
}

func (d *dealer) glitch() Fault {
	return Fault{Kind: Glitch, For: [...]time.Duration{d.shorter(), d.longer()}[d.n(2)]}
}

func (d *dealer) closePort() Fault {
	return Fault{Kind: ClosePort, Who: []Pick{d.node()}, For: d.between(time.Second, 8*time.Second)}
}

func (d *dealer) freezeShort() Fault {
	return Fault{Kind: Freeze, Who: []Pick{d.node()}, For: d.shorter()}
}

func (d *dealer) freezeLong() Fault {
	return Fault{Kind: Freeze, Who: []Pick{[...]Pick{leader, d.node()}[d.n(2)]}, For: d.between(DeadAfter, DeadAfter*3)}
}

func (d *dealer) leave() Fault { return Fault{Kind: Leave, Who: []Pick{d.node()}} }

func (d *dealer) clock() Fault {
	return Fault{Kind: ClockStep, Who: []Pick{d.node()}, Step: [...]time.Duration{time.Hour, -time.Hour}[d.n(2)]}
}
