package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// setting is one way of setting corosync up: what stands in its section totem
// beside what all settings have.
type setting struct{ name, totem, why string }

// settings are those that a comparison is fair with. All run with SCHED_RR at the
// highest priority, which is corosync's default. The token of 50 ms needs explicit pings:
// the automatic ones raise false alarms below 500 ms. And it leaves time for one
// retransmission; corosync does not start with more.
var settings = []setting{
	{"default", "", "nothing set: a token of 3000 ms and 650 ms for each node beyond two"},
	{"safe", "  token: 1000\n  token_coefficient: 0\n", "token 1000, token_coefficient 0"},
	{"extreme", "  token: 50\n  token_coefficient: 0\n  token_retransmits_before_loss_const: 1\n  interface {\n    linknumber: 0\n    knet_ping_interval: 400\n    knet_ping_timeout: 1600\n  }\n",
		"token 50, token_coefficient 0, token_retransmits_before_loss_const 1, knet_ping_interval 400, knet_ping_timeout 1600"},
}

func settingNamed(name string) (setting, error) {
	for _, s := range settings {
		if s.name == name {
			return s, nil
		}
	}
	return setting{}, fmt.Errorf("%w: corosync has no setting %q here", errUsage, name)
}

// corosyncConf is a node's corosync.conf: nothing is encrypted, which costs the least.
// It says what happens on its standard error, where bench reads it.
func corosyncConf(s setting, state string, nodes int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "totem {\n  version: 2\n  cluster_name: bench\n  transport: knet\n  crypto_cipher: none\n  crypto_hash: none\n%s}\n", s.totem)
	fmt.Fprintf(&b, "system {\n  sched_rr: yes\n  state_dir: %s\n}\n", state)
	b.WriteString("logging {\n  to_stderr: yes\n  to_syslog: no\n  to_logfile: no\n  timestamp: hires\n}\n")
	b.WriteString("quorum {\n  provider: corosync_votequorum\n}\nnodelist {\n")
	for n := 1; n <= nodes; n++ {
		fmt.Fprintf(&b, "  node {\n    ring0_addr: %s\n    name: n%d\n    nodeid: %d\n  }\n", Addr(n), n, n)
	}
	b.WriteString("}\n")
	return b.String()
}

// corosyncReader makes views of what corosync logs. The quorum service tells the
// members when all of them have synchronised on a new ring, and tells its clients
// then: that is the agreed view. The ring's name was logged before.
type corosyncReader struct{ ring string }

var (
	ringLine    = regexp.MustCompile(`\[TOTEM *\] A new membership \(([0-9a-f.:]+)\) was formed`)
	membersLine = regexp.MustCompile(`\[QUORUM *\] Members\[([0-9]+)\]: ?([0-9 ]*)`)
	errCorosync = errors.New("corosync says what this bench does not understand")
)

// read returns the view that a line tells; one without ID when it tells none.
func (r *corosyncReader) read(line string) (View, error) {
	if m := ringLine.FindStringSubmatch(line); m != nil {
		r.ring = m[1]
		return View{}, nil
	}
	m := membersLine.FindStringSubmatch(line)
	if m == nil {
		return View{}, nil
	}
	v := View{ID: r.ring, Members: []int{}}
	for _, w := range strings.Fields(m[2]) {
		n, err := strconv.Atoi(w)
		if err != nil {
			return View{}, fmt.Errorf("%w: %q", errCorosync, line)
		}
		v.Members = append(v.Members, n)
	}
	if v.ID == "" || strconv.Itoa(len(v.Members)) != m[1] {
		return View{}, fmt.Errorf("%w: %q", errCorosync, line)
	}
	return v, nil
}
