package importer

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config/internal/quote"
	"github.com/quorate/quorate/membership"
)

var dlmKeyword = regexp.MustCompile(`(?m)^(device|connect|unfence|fence_all|unfence_all|lockspace|master|enable_[a-z]+|post_join_delay|protocol)\b[^{]*$`)

// looksLikeDLM says whether what should be corosync.conf is a dlm.conf.
func looksLikeDLM(data []byte) bool {
	return dlmKeyword.Match(data) && !strings.Contains(string(data), "{")
}

// dlmFile is what is in a dlm.conf: settings, and lines of words.
type dlmFile struct {
	settings []confKey
	lines    []dlmLine
}

// dlmLine is a line that begins with a keyword.
type dlmLine struct {
	pos
	word  string   // device, connect, unfence, fence_all, unfence_all, lockspace, master, node
	names []string // what follows, before the first key=value
	args  []option
	new   bool // an empty line is before it
}

// ascii are the spaces that part the words of dlm.conf, as C's isspace has them.
const ascii = " \t\r\n\v\f"

// dlmNames is how many names follow a keyword.
var dlmNames = map[string]int{"device": 2, "connect": 1, "unfence": 1, "fence_all": 1, "unfence_all": 0, "lockspace": 1, "master": 1, "node": 0}

// parseDLM reads dlm.conf: lines key=value; lines of a keyword, names and
// key=value; comments that begin with #. What stands where a secret may be is
// never quoted.
func parseDLM(f File) (dlmFile, Faults) {
	var out dlmFile
	var faults Faults
	n, blank := 0, true
	for l := range strings.Lines(string(f.Data)) {
		n++
		line := strings.Trim(l, ascii)
		if line == "" {
			blank = true
			continue
		}
		if line[0] == '#' {
			continue
		}
		words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(ascii, r) })
		if _, ok := dlmNames[words[0]]; ok {
			d, why := parseDLMLine(pos{f.Name, n}, words)
			if d.new = blank; why != "" {
				faults = append(faults, Fault{f.Name, n, why})
			}
			out.lines = append(out.lines, d)
			blank = false
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); !ok || key == "" || strings.ContainsAny(key, " \t") {
			faults = append(faults, Fault{f.Name, n, "neither setting=value nor a line that begins with device, connect, unfence, fence_all, lockspace, master or node: write one of these; a comment begins with #"})
			continue
		}
		out.settings = append(out.settings, confKey{pos{f.Name, n}, key, strings.TrimSpace(value)})
	}
	return out, faults
}

func parseDLMLine(at pos, words []string) (dlmLine, string) {
	d := dlmLine{pos: at, word: words[0]}
	need := dlmNames[d.word]
	like := map[string]string{"device": "device NAME AGENT key=value …", "connect": "connect NAME node=ID key=value …", "unfence": "unfence NAME",
		"fence_all": "fence_all AGENT key=value …", "unfence_all": "unfence_all", "lockspace": "lockspace NAME key=value", "master": "master NAME node=ID", "node": "node id=ID mark=N"}[d.word]
	for i, w := range words[1:] {
		key, value, pair := strings.Cut(w, "=")
		switch {
		case i < need && pair, i >= need && (!pair || key == ""):
			return d, fmt.Sprintf("word %d of this %s line is not what stands there: write %s; a value has no space in it", i+2, d.word, like)
		case i < need:
			d.names = append(d.names, w)
		default:
			d.args = append(d.args, option{pos: at, key: key, value: value})
		}
	}
	if len(d.names) < need {
		return d, fmt.Sprintf("too little on this %s line: write %s", d.word, like)
	}
	return d, ""
}

// arg takes a key=value off a line.
func (d *dlmLine) arg(key string) (string, bool) {
	for i, a := range d.args {
		if a.key == key {
			d.args = append(d.args[:i:i], d.args[i+1:]...)
			return a.value, true
		}
	}
	return "", false
}

// dlm reads dlm.conf into the plan.
func (p *plan) dlm(f File) {
	file, faults := parseDLM(f)
	for _, k := range file.settings {
		p.dlmSetting(k)
	}
	if len(faults) > 0 {
		p.faults = append(p.faults, faults...)
		return // what the other lines mean may depend on these
	}
	p.dlmFence(file.lines)
	for _, d := range file.lines {
		switch d.word {
		case "lockspace", "master":
			p.note(d.pos, d.word+" "+clean(d.names[0]), "every resource has its entry in the DLM's directory, which the members share, and any member may master it; nodir and weights cannot be set")
		case "node":
			p.note(d.pos, "node", "the kernel's DLM sockets carry no mark; match its port")
		}
	}
}

// Why settings of dlm_controld have no counterpart.
const (
	whyPlock = "POSIX locks are not served yet: fcntl answers ENOSYS on the file systems; flock works"
	whyLog   = "quorated logs to the journal, and quorate events shows what happened"
	whyRetry = "failed fencing is tried again, after 1 s up to 30 s, by another node or device, until there is a proof"
	whyOne   = "one agent runs for a victim at a time; two victims may be fenced at once"
	whyDLM   = "quorated drives the DLM by itself, and sets what it needs"
)

var dlmWhy = map[string]string{
	"daemon_debug": whyLog, "log_debug": whyLog, "debug_logfile": whyLog, "foreground": whyLog, "bind_all": "the DLM uses the first address of each node", "mark": "the kernel's DLM sockets carry no mark; match its port",
	"enable_plock": whyPlock, "plock_debug": whyPlock, "plock_rate_limit": whyPlock, "plock_ownership": whyPlock,
	"drop_resources_time": whyPlock, "drop_resources_count": whyPlock, "drop_resources_age": whyPlock,
	"enable_concurrent_fencing": whyOne, "repeat_failed_fencing": whyRetry, "enable_helper": "agents are started by quorated itself, and kept started", "enable_fscontrol": "fs_controld is no more",
	"timewarn": whyDLM,
}

func (p *plan) dlmSetting(k confKey) {
	why, known := dlmWhy[k.key]
	switch {
	case known:
		p.note(k.pos, k.key, why)
	case k.key == "protocol":
		p.protocol(k.pos, k.key, k.value)
	case k.key == "port", k.key == "tcp_port":
		if n, ok := p.whole(k.pos, k.key, k.value, 1, 65535); ok {
			p.set(k.pos, "dlm_port", fmt.Sprint(n), k.key)
		}
	case k.key == "post_join_delay":
		if n, ok := p.whole(k.pos, k.key, k.value, 0, 3600); ok {
			p.joinGrace(k.pos, k.key, n)
		}
	case k.key == "enable_fencing":
		if !p.flag(k.pos, k.key, k.value) {
			p.unfenced(k.pos, k.key)
		}
	case k.key == "enable_startup_fencing":
		if p.flag(k.pos, k.key, k.value) {
			p.note(k.pos, k.key, "members that are not seen after join_grace are fenced where they may hold storage, which is the default here; nodes that left cleanly, or were proved gone, are not fenced once more")
		} else {
			p.set(k.pos, "startup_fencing", `"wait"`, k.key+"=0: who was not seen is waited for")
		}
	case k.key == "enable_quorum_fencing", k.key == "enable_quorum_lockspace":
		if !p.flag(k.pos, k.key, k.value) {
			p.note(k.pos, k.key+"=0", "fencing and recovery always take a quorum; two halves would fence each other, or write to the same disk")
			p.do("see that the nodes that shall go on are a majority: %s had it off (%s)", k.key, k.pos)
		}
	default:
		p.unknown(k.pos, clean(k.key), k.key, append(slices.Sorted(maps.Keys(dlmWhy)), "protocol", "port", "post_join_delay", "enable_fencing", "enable_startup_fencing", "enable_quorum_fencing", "enable_quorum_lockspace"))
	}
}

// protocol reads what the DLM speaks. 0 and 1 are the kernel's numbers.
func (p *plan) protocol(at pos, key, value string) {
	switch strings.ToLower(value) {
	case "tcp", "0":
	case "detect", "2":
		p.note(at, key, "the DLM speaks TCP, on the first address; with two rings the incumbent would have taken SCTP")
	case "sctp", "1":
		p.note(at, key, "the DLM speaks TCP, on the first address alone: SCTP's second path has no counterpart; put the first address on a bond or a routed /32 if that path matters")
	default:
		p.fault(at, "%s: %q is not known: write tcp, sctp or detect", key, clean(value))
	}
}

// joinGrace sets how long members that were not seen are waited for.
func (p *plan) joinGrace(at pos, key string, seconds int64) {
	d := max(time.Duration(seconds)*time.Second, time.Second)
	p.set(at, "join_grace", quote.TOML(membership.Short(d)), key)
}

// unfenced stands for an incumbent that recovered without fencing.
func (p *plan) unfenced(at pos, key string) {
	p.note(at, key+"=0", "quorate never recovers without proof that a lost node is off; no setting changes that")
	p.byHand(fmt.Sprintf("%s had fencing off: until there is a [[fence]] device for every node an operator confirms each death (quorate fence ack)", at))
	p.do("write a [[fence]] section for every node, and remove fencing = \"manual\" (%s had fencing off)", at)
}
