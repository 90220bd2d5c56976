package importer

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config/internal/quote"
	"github.com/quorate/quorate/membership"
)

var (
	placeholder = regexp.MustCompile(`\{[a-z]+\}`)
	optionKey   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	notInFile   = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)
)

// secretDir is where the values of secrets are to be put.
const secretDir = "/etc/quorate"

// option is one key=value for an agent.
type option struct {
	pos
	key, value string
}

// device is one fence device of the incumbent.
type device struct {
	pos
	name, agent string
	options     []option
}

// connection says that a device can cut off a node, and with what level.
type connection struct {
	pos
	node    *node
	dev     *device
	options []option
	level   int
}

// fences are all connections, in the order of the file.
type fences struct {
	list    []connection
	skipped []string // devices that have no counterpart
}

// section is one [[fence]] section to be.
type section struct {
	pos
	dev     *device
	level   int
	nodes   []*node
	plugs   []setting // by node; empty: none
	options []setting
	timeout time.Duration // 0: the default
	about   []string
	key     string // what connections of one section have in common
}

// renamed are the names that fence-agents gave to options later. The old ones
// are taken by its library still, and not by all others.
var renamed = map[string]string{"ipaddr": "ip", "login": "username", "passwd": "password", "passwd_script": "password_script", "port": "plug", "option": "action",
	"secure": "ssh", "cmd_prompt": "command_prompt"}

// bridges are agents that hand the work to somebody who will not be there.
var bridges = map[string]string{
	"dlm_stonith": "it asks Pacemaker, which has the devices (pcs stonith config, stonith_admin -L)",
	"fence_pcmk":  "it asks Pacemaker, which has the devices (pcs stonith config, stonith_admin -L)",
	"fence_node":  "it asks the incumbent's own configuration", "fence_manual": "it waits for fence_ack_manual: that is fencing = \"manual\" with quorate fence ack",
	"fence_ack_manual": "it is the operator's word: that is fencing = \"manual\" with quorate fence ack", "fence_sanlock": "it needs sanlock's daemons, which quorate does not start",
	"fence_kdump": "it proves that a node writes its crash dump, and quorate has no such level; the other devices cut the node off, dump or not",
}

// bridge skips a device that has no counterpart, and says whether it did.
func (p *plan) bridge(d *device) bool {
	why, ok := bridges[path.Base(d.agent)]
	if !ok {
		return false
	}
	p.note(d.pos, "fence device "+clean(d.name)+" ("+clean(d.agent)+")", why)
	p.fences.skipped = append(p.fences.skipped, d.name)
	return true
}

// program is the agent as quorate.toml names it.
func program(agent string) string {
	switch path.Dir(agent) {
	case "/usr/sbin", "/sbin", "/usr/local/sbin":
		return path.Base(agent)
	}
	return agent
}

// usable says whether an agent is a program's name or an absolute path.
func usable(agent string) bool {
	return agent != "" && !strings.ContainsAny(agent, " \t\r\n") && (agent[0] == '/' || !strings.Contains(agent, "/")) && path.Base(agent) != "/"
}

// cover has deaths confirmed by hand where not every node has a device, and says
// what to write.
func (p *plan) cover() {
	if len(p.faults) > 0 || len(p.nodes) < 2 {
		return
	}
	var bare []string
	for _, n := range p.nodes {
		if !slices.ContainsFunc(p.fences.list, func(c connection) bool { return c.node == n }) {
			bare = append(bare, n.name)
		}
	}
	switch {
	case len(bare) == 0:
	case len(p.fences.list) == 0 && len(p.fences.skipped) == 0:
		p.byHand("no fence device was found: those of Pacemaker are in its own configuration")
		p.do("write a [[fence]] section for every node (pcs stonith config shows what Pacemaker has), and remove fencing = \"manual\"")
	default:
		p.byHand("no fence device was carried over for " + strings.Join(bare, ", "))
		p.do("write a [[fence]] section for %s, and remove fencing = \"manual\"", strings.Join(bare, ", "))
	}
}

// sections joins connections that are alike: the same device, level and options.
func (p *plan) sections() []*section {
	var out []*section
	files := map[string]string{}
	for _, c := range p.fences.list {
		s := p.section(c, files)
		var same *section
		for _, o := range out {
			if o.key == s.key && !slices.Contains(o.nodes, c.node) {
				same = o
				break
			}
		}
		if same == nil {
			out = append(out, s)
			continue
		}
		same.nodes = append(same.nodes, c.node)
		same.plugs = append(same.plugs, s.plugs...)
	}
	return out
}

// section makes the section of one connection.
func (p *plan) section(c connection, files map[string]string) *section {
	s := &section{pos: c.dev.pos, dev: c.dev, level: c.level, nodes: []*node{c.node}}
	translate := strings.HasPrefix(path.Base(c.dev.agent), "fence_")
	was := map[string]string{}
	var extra time.Duration
	add := func(o option, own bool) {
		key := o.key
		if modern, ok := renamed[key]; ok && translate {
			if _, done := was[modern]; !done && modern != key {
				was[modern] = key
			}
			key = modern
		}
		extra += waits(key, o.value)
		p.addOption(s, c, option{o.pos, key, o.value}, own, files)
	}
	for _, o := range c.dev.options {
		add(o, false)
	}
	for _, o := range c.options {
		add(o, true)
	}
	if extra > 0 {
		s.timeout = min(30*time.Second+extra, 10*time.Minute)
	}
	slices.SortStableFunc(s.options, func(a, b setting) int { return strings.Compare(a.key, b.key) })
	var old []string
	for _, o := range []string{"ip", "username", "password", "password_script", "plug", "action", "ssh", "command_prompt"} {
		if was[o] != "" {
			old = append(old, was[o]+" is "+o)
		}
	}
	if len(old) > 0 {
		s.about = append(s.about, "options have fence-agents' present names: "+strings.Join(old, ", "))
	}
	s.key = fmt.Sprintf("%s %d %t", c.dev.pos, c.level, len(s.plugs) > 0)
	for _, o := range s.options {
		s.key += fmt.Sprintf(" %q=%q", o.key, o.value)
	}
	return s
}

// waits is what an option adds to the time that an agent takes.
func waits(key, value string) time.Duration {
	if key != "delay" && key != "power_wait" {
		return 0
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(value, "s"), 64)
	if err != nil || !(n > 0 && n < 3600) {
		return 0
	}
	return time.Duration(n) * time.Second
}

// addOption gives one option to a section: of the device, or of the connection
// alone. A secret becomes the file that shall have it.
func (p *plan) addOption(s *section, c connection, o option, own bool, files map[string]string) {
	put := func(key, value string) {
		s.options = slices.DeleteFunc(s.options, func(x setting) bool { return x.key == key })
		s.options = append(s.options, keyed(o.pos, key, quote.TOML(value), ""))
	}
	switch base, isFile := strings.CutSuffix(o.key, "_file"); {
	case isFile && p.opt.Secret(base):
		p.note(o.pos, "option "+clean(o.key)+" of fence device "+clean(c.dev.name), "quorate reads such a file itself and gives its text as "+clean(base)+"; put the file where the agent looks by default")
		p.do("see where %s looks for what %s named (%s)", program(c.dev.agent), clean(o.key), o.pos)
	case isScript(o.key) && !placeholder.MatchString(o.value):
		put(o.key, o.value)
	case p.opt.Secret(o.key) && o.value == "":
	case p.opt.Secret(o.key):
		put(o.key+"_file", p.secretFile(c, o, own, files))
	case o.key == "action":
		p.action(s, c, o, put)
	case placeholder.MatchString(o.value):
		p.do("write option %s of fence device %s by hand (%s): its value has a word in braces, which quorate would take for {name} or {id}", clean(o.key), clean(c.dev.name), o.pos)
	case o.key == "plug" && own:
		s.plugs = []setting{keyed(o.pos, c.node.name, quote.TOML(o.value), "")}
	default:
		put(o.key, o.value)
	}
}

// isScript says whether an option names a program that prints a secret. Its path
// is none.
func isScript(key string) bool { return key == "password_script" || key == "snmp_priv_passwd_script" }

// action keeps reboot, where it means that the node was off.
func (p *plan) action(s *section, c connection, o option, put func(key, value string)) {
	beside := 0 // how many take part, itself among them
	for _, x := range p.fences.list {
		if x.node == c.node && x.level == c.level {
			beside++
		}
	}
	switch o.value {
	case "off", "":
	case "reboot":
		if beside == 1 {
			put("action", "reboot")
			return
		}
		p.note(o.pos, "action=reboot of fence device "+clean(c.dev.name), "two devices of a node that are rebooted one after the other never leave it without power: both are switched off")
	default:
		p.note(o.pos, "action="+clean(o.value)+" of fence device "+clean(c.dev.name), "quorate knows off, which is what is written now, and reboot")
		p.do("see that fence device %s can do off (%s)", clean(c.dev.name), o.pos)
	}
}

// secretFile names the file of a secret, and tells the operator to make it. The
// value stays here.
func (p *plan) secretFile(c connection, o option, own bool, files map[string]string) string {
	name := c.dev.name
	if own {
		name += "-" + c.node.name
	}
	id := fmt.Sprintf("%s %s %t %s", c.dev.pos, o.key, own, c.node.name)
	if !own {
		id = fmt.Sprintf("%s %s", c.dev.pos, o.key)
	}
	if o.key != "password" {
		name += "-" + o.key
	}
	base := strings.Trim(notInFile.ReplaceAllString(name, "-"), "-.")
	file := secretDir + "/fence-" + base + ".secret"
	for n := 2; files[file] != "" && files[file] != id; n++ {
		file = fmt.Sprintf("%s/fence-%s-%d.secret", secretDir, base, n)
	}
	files[file] = id
	p.do("put the %s of fence device %s, which is in %s, into %s on every node: one line, mode 0600, root's", clean(o.key), clean(c.dev.name), o.pos, file)
	return file
}

// checkOptions refuses what cannot be given to an agent.
func (p *plan) checkOptions(options []option) {
	for _, o := range options {
		switch {
		case !optionKey.MatchString(o.key):
			p.fault(o.pos, "an option has a name that cannot be given to an agent: write letters, digits, _ and - before the =")
		case strings.ContainsAny(o.value, "\n\r"):
			p.fault(o.pos, "option %s has a line break in its value, and agents read one option a line: write it on one line", clean(o.key))
		}
	}
}

func (s *section) timeoutText() string { return quote.TOML(membership.Short(s.timeout)) }
