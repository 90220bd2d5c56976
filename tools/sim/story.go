package sim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/membership"
)

// ErrStory is a scenario that cannot be read; the text says which line.
var ErrStory = errors.New("scenario")

// Story is a scenario: a cluster and what is done to it, line by line. Lines
// begin with a word; # begins a comment.
//
//	witness                       there is one; as a node it is called witness
//	nodes 3 | links 2 | stable | profile safe|lan|fast | xdp on|off | manual
//	lockspaces gfs lvm            all nodes mount all of them
//	startup needed|wait           what becomes of members that are not seen after a start
//	rules two_node last_man_standing …  as in [quorum]; a window of 2s; tie-lowest, tie-highest
//	newer 1 2                     these have Linux 6.18 or newer
//	running 20s                   everything wanted runs within that time
//	expect 3s fenced 3            some node logs that event about node 3 within it (any:
//	                              about whichever), counted from the last line that did something
//	never 3s start 2              no node logs it for so long; both-shoot is an event of
//	                              the devices: two agents, each against the other's node
//	wait 2s
//	kill N | kill-leader | kill-all | boot N | reboot N | wipe N | crash N
//	stall N 20s | resume N        the main loop of its daemon stands still; and goes on again
//	mute N 5s                     its prober stands still and asks nobody
//	pause N 2s | freeze N 2s | cut A B | cut-way A B | cut-link A B first|second | isolate N | heal
//	close-port A B                the DLM's packets between the two are lost, and no other
//	split N N …                   these are cut from all others, and not from each other
//	hold N VICTIM 10s | release N VICTIM | maintenance N 1m | maintenance-off N
//	read-only N | repair N
//	mount N gfs | unmount N gfs | withdraw N gfs | leave N | ack N VICTIM | fence-node N VICTIM
//	reconfigure N safe|lan|fast|agent   an operator on N changes the times, or the fence agent
//	lacks N                       the other agent is not installed on N
//	add N NEW | remove N OLD | replace N OLD | drain N OLD | undrain N OLD
//	version 3s 2                  within that time all members work by version 2
//	fencing works|fails|cut-fails|slow|hangs|late | fencing-of N hangs
//	hang-stop N 5s | fail-start N 5s | slow-disk N 1s
//	override N                    of wait_for_all, by an operator
//	rejoin N                      an operator gives up its log for a rival's; an ack of who
//	                              lives is a false proof, and makes rivals
//	rivals N                      it knows of some, runs nothing, and quorate why says what to do
//	call a leader                 from now on a is that node
//	when fence-start 3 kill actor as soon as some node logs that event about node 3
//	                              (any: about whichever), once; it must come
//
// In the place of a number N there may be a name that was called; leader; actor,
// who started a fence agent last; and after a `when` has come true: it, the node
// that the event was about; by, the node that logged it; hit, the node that
// something was done to.
type Story struct {
	lines []line
	setup []line
}

type line struct {
	number int
	words  []string
	text   string
}

// setup are the words that say what the cluster is.
const setup = " witness nodes links stable profile xdp manual fabric lockspaces newer rules startup reserve "

// maxStory bounds a scenario, in lines.
const maxStory = 1000

// ParseStory reads a scenario.
func ParseStory(r io.Reader) (*Story, error) {
	s := &Story{}
	names := map[string]bool{"leader": true, "actor": true, "it": true, "by": true, "hit": true, "witness": true}
	in := bufio.NewScanner(r)
	for n := 1; in.Scan(); n++ {
		text, _, _ := strings.Cut(in.Text(), "#")
		l := line{number: n, words: strings.Fields(text), text: strings.TrimSpace(text)}
		if len(l.words) == 0 {
			continue
		}
		if n > maxStory {
			return nil, fmt.Errorf("%w: more than %d lines", ErrStory, maxStory)
		}
		if err := l.check(names); err != nil {
			return nil, fmt.Errorf("%w: line %d, %q: %w", ErrStory, n, l.text, err)
		}
		if l.words[0] == "call" {
			names[l.words[1]] = true
		}
		if strings.Contains(setup, " "+l.words[0]+" ") {
			s.setup = append(s.setup, l)
			continue
		}
		s.lines = append(s.lines, l)
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStory, err)
	}
	return s, nil
}

// forms says what follows each word: n a node, a a node or any, d a duration, i a
// number, w a word, + more of the last, * words.
var forms = map[string]string{
	"witness": "", "nodes": "i", "links": "i", "stable": "", "profile": "w", "xdp": "w", "manual": "", "fabric": "", "lockspaces": "*", "rules": "*", "startup": "w", "newer": "i+",
	"reserve": "i", "reconfigure": "nw", "lacks": "n", "add": "nn", "remove": "nn", "replace": "nn", "drain": "nn", "undrain": "nn", "version": "di",
	"running": "d", "expect": "dwa", "never": "dwa", "wait": "d",
	"kill": "n", "kill-leader": "", "kill-all": "", "boot": "n", "reboot": "n", "wipe": "n", "crash": "n",
	"pause": "nd", "freeze": "nd", "stall": "nd", "mute": "nd", "resume": "n", "cut": "nn", "cut-way": "nn", "cut-link": "nnw", "close-port": "nn", "isolate": "n", "heal": "",
	"mount": "nw", "unmount": "nw", "withdraw": "nw", "leave": "n", "ack": "nn", "fence-node": "nn",
	"fencing": "w", "fencing-of": "nw", "hang-stop": "nd", "fail-start": "nd", "slow-disk": "nd",
	"split": "n+", "call": "wn", "when": "*",
	"hold": "nnd", "release": "nn", "maintenance": "nd", "maintenance-off": "n", "read-only": "n", "repair": "n", "override": "n", "rejoin": "n", "rivals": "n",
}

// waiting are the words that take time; a `when` cannot do them.
const waiting = " running version expect never wait when call "

// mostNodes bounds what a `split` names.
const mostNodes = 9

func (l line) check(names map[string]bool) error {
	form, ok := forms[l.words[0]]
	if !ok {
		return errors.New("unknown word")
	}
	if l.words[0] == "when" {
		return l.checkWhen(names)
	}
	if form == "*" {
		return l.checkChoice()
	}
	if last := len(form) - 1; last > 0 && form[last] == '+' {
		form = form[:last] + strings.Repeat(form[last-1:last], min(max(len(l.words)-1-last, 0), mostNodes))
	}
	if len(l.words) != len(form)+1 {
		return fmt.Errorf("%d words follow, expected %d", len(l.words)-1, len(form))
	}
	for i, f := range form {
		if err := checkWord(byte(f), l.words[i+1], names); err != nil {
			return err
		}
	}
	return l.checkChoice()
}

func checkWord(form byte, w string, names map[string]bool) (err error) {
	switch form {
	case 'n', 'a', 'i':
		if form != 'i' && names[w] || form == 'a' && w == "any" {
			return nil
		}
		var v uint64
		if v, err = strconv.ParseUint(w, 10, 8); err == nil && (v < 1 || v > 9) {
			err = fmt.Errorf("%d: 1 to 9", v)
		}
	case 'd':
		_, err = time.ParseDuration(w)
	}
	return err
}

// checkWhen looks at kind, node and what is to be done.
func (l line) checkWhen(names map[string]bool) error {
	if len(l.words) < 4 {
		return fmt.Errorf("%d words follow, expected a kind, a node and what to do", len(l.words)-1)
	}
	if err := checkWord('a', l.words[2], names); err != nil {
		return err
	}
	if strings.Contains(setup+waiting, " "+l.words[3]+" ") {
		return fmt.Errorf("%q cannot be done in an instant", l.words[3])
	}
	return l.then().check(names)
}

// then is what a `when` does.
func (l line) then() line { return line{number: l.number, words: l.words[3:], text: l.text} }

// checkChoice looks at words of which there are a few.
func (l line) checkChoice() error {
	switch l.words[0] {
	case "reconfigure":
		return oneOf(l.words[2], "safe", "lan", "fast", "agent")
	case "profile":
		return oneOf(l.words[1], "safe", "lan", "fast")
	case "cut-link":
		return oneOf(l.words[3], linkNames...)
	case "xdp":
		return oneOf(l.words[1], "on", "off")
	case "startup":
		return oneOf(l.words[1], string(membership.StartupNeeded), string(membership.StartupWait))
	case "rules":
		for _, w := range l.words[1:] {
			if err := oneOf(w, ruleNames...); err != nil {
				return err
			}
		}
	case "fencing", "fencing-of":
		return oneOf(l.words[len(l.words)-1], modeNames[:]...)
	}
	return nil
}

// linkNames are the links that may be cut alone.
var linkNames = []string{"first", "second"}

// ruleNames are what follows `rules`.
var ruleNames = []string{"two_node", "wait_for_all", "last_man_standing", "leave_removes_vote", "tie-lowest", "tie-highest"}

func rulesOf(words []string) (q membership.Quorum) {
	has := func(w string) bool { return slices.Contains(words, w) }
	q.TwoNode, q.WaitForAll, q.LeaveRemoves = has("two_node"), has("wait_for_all"), has("leave_removes_vote")
	if q.LastManStanding = has("last_man_standing"); q.LastManStanding {
		q.LastManWindow = 2 * time.Second
	}
	switch {
	case has("tie-lowest"):
		q.TieBreaker.Mode = membership.TieLowest
	case has("tie-highest"):
		q.TieBreaker.Mode = membership.TieHighest
	}
	return q
}

func oneOf(w string, of ...string) error {
	if slices.Contains(of, w) {
		return nil
	}
	return fmt.Errorf("%q: one of %v", w, of)
}

func (l line) duration(i int) time.Duration {
	d, _ := time.ParseDuration(l.words[i]) // checked when it was read
	return d
}

func (l line) num(i int) int {
	v, _ := strconv.Atoi(l.words[i]) // checked when it was read
	return v
}

// plan is the cluster of a story: quiet, so that only what is told happens.
func (s *Story) plan() plan {
	p := plan{nodes: 3, links: 1, timing: safe, xdp: true, spaces: []string{"gfs"}, timeout: 2 * time.Second,
		delay: 150 * time.Microsecond, fsync: 2 * time.Millisecond, slowRec: 30 * time.Millisecond,
		removal: 20 * time.Millisecond, joinFor: 10 * time.Second}
	for _, l := range s.setup {
		switch l.words[0] {
		case "witness":
			p.witness = true
		case "nodes":
			p.nodes = l.num(1)
		case "links":
			p.links = l.num(1)
		case "stable":
			p.stable = true
		case "profile":
			p.timing = map[string]membership.Timing{"safe": safe, "lan": lan, "fast": fast}[l.words[1]]
		case "xdp":
			p.xdp = l.words[1] == "on"
		case "startup":
			p.startup = membership.Startup(l.words[1])
		case "manual":
			p.manual = true
		case "reserve":
			p.reserve = l.num(1)
		case "fabric":
			p.fabric = true
		case "lockspaces":
			p.spaces = l.words[1:]
		case "rules":
			p.rules = rulesOf(l.words[1:])
		}
	}
	for range p.nodes {
		w := make([]bool, len(p.spaces))
		for i := range w {
			w[i] = true
		}
		p.wants = append(p.wants, w)
	}
	p.newer = make([]bool, mostNodes)
	for _, l := range s.setup {
		if l.words[0] == "newer" {
			for i := range l.words[1:] {
				p.newer[l.num(i+1)-1] = true
			}
		}
	}
	return p
}
