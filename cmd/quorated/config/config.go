package config

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/quorate/quorate/membership"
)

// Defaults of the file.
const (
	DefaultPath      = "/etc/quorate/quorate.toml"
	DefaultKeyFile   = "/etc/quorate/quorate.key"
	DefaultStateDir  = "/var/lib/quorate"
	DefaultPort      = 21060  // TCP, between daemons
	DefaultProbePort = 21061  // UDP, liveness
	DefaultDLMPort   = 21064  // TCP, the kernel's DLM; its own default too
	DefaultReflector = "auto" // the kernel answers probes where it can

	// MaxSize is the largest file that is read, in bytes.
	MaxSize = 1 << 20
	// MaxNodes is the largest number of nodes of a cluster.
	MaxNodes = 32
	// MaxLinks is the largest number of addresses of a node.
	MaxLinks = 8
)

// ErrInvalid is what every fault in the file is.
var ErrInvalid = errors.New("configuration is not valid")

// OpError is a failure to read something that the configuration needs.
type OpError struct {
	Op   string
	Path string
	Err  error
}

func (e *OpError) Error() string { return e.Op + " " + e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// Fault is one fault of the file.
type Fault struct {
	File string
	Line int    // from 1
	Text string // what is wrong, and what to write instead
}

func (f Fault) Error() string { return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text) }

// Faults are all faults of the file, by line. It is an ErrInvalid.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, x := range f {
		lines[i] = x.Error()
	}
	return strings.Join(lines, "\n")
}

// Is makes every Faults an ErrInvalid.
func (f Faults) Is(target error) bool { return target == ErrInvalid }

// Config is all that the file says.
type Config struct {
	membership.Config // Self is 0 until Bind

	Path      string // where it was read from
	Text      string // what was read
	KeyFile   string // the cluster's secret, 0600
	Port      uint16
	ProbePort uint16
	DLMPort   uint16
	DLMFirst  bool // dlm_address = "first" is written
	// DLMNetwork has the nodes' addresses for the DLM, with dlm_address = "stable"; else
	// it is not valid, and the first addresses are.
	DLMNetwork netip.Prefix
	StateDir   string
	NoKernel   bool   // kernel = "none": a member whose kernel has no part in it
	Group      string // who orders and decides: GroupRaft or GroupStatic
	// MembersFile has the list of members, with GroupStatic; empty: all nodes.
	MembersFile string
	// Reflector is where this node's kernel answers probes: auto, native or generic; off: nowhere.
	Reflector string
	EventsTo  string // host:port that gets a datagram of JSON for each event; empty: nobody

	// Auto: the configuration leaves the liveness profile to quorate. ProfileWhy says how it
	// was chosen.
	Auto       bool
	ProfileWhy string
	// Warnings are things that work and that an operator should know of.
	Warnings []string
	// Alike are devices that would cut off another node than they are asked to.
	Alike []string
	// Notes are what follows from the file without being written there.
	Notes  []string
	Digest Digest
}

// Load reads and parses the file.
func Load(path string) (Config, error) {
	data, err := read(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%w: copy the reference quorate.toml.example (in /etc/quorate) there, or make one with `quorate config import`, edit [[node]] and [[fence]], and give every node the same file", err)
		}
		return Config{}, &OpError{Op: "read configuration", Path: path, Err: err}
	}
	c, err := Parse(path, data)
	if err == nil {
		err = ownValues(c)
	}
	return c, err
}

// Read returns a file's text.
func Read(path string) (string, error) {
	data, err := read(path)
	if err != nil {
		return "", &OpError{Op: "read configuration", Path: path, Err: err}
	}
	return string(data), nil
}

func read(path string) ([]byte, error) {
	// O_NONBLOCK: opening a fifo by mistake must not hang the daemon.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("larger than %d bytes: is this the right file?", MaxSize)
	}
	return data, nil
}

// Parse checks the bytes of a file and returns the configuration, or Faults.
// The name is only used in the faults.
func Parse(name string, data []byte) (Config, error) {
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		return Config{}, Faults{syntaxFault(name, err)}
	}
	p := &parser{file: name, lines: locate(string(data))}
	c := Config{Path: name, Text: string(data)}
	root := &table{p: p, m: tree}
	p.cluster(root.sub("cluster"), &c)
	c.Nodes = p.nodes(root.list("node"), tree["node"] != nil)
	p.stable(root.sub("cluster"), c)
	p.fences(root.list("fence"), &c)
	p.fenceless(root.sub("cluster"), tree["fence"] != nil, c)
	p.quorum(root.sub("quorum"), &c, tree["witness"] != nil)
	p.liveness(root.sub("liveness"), &c)
	p.edges(root.sub("events"), root.sub("state"), &c)
	root.done()
	if len(p.faults) > 0 {
		return Config{}, p.sorted()
	}
	c.Warnings = warnings(c)
	c.Digest = digest(c)
	return c, nil
}

func syntaxFault(name string, err error) Fault {
	var pe toml.ParseError
	if !errors.As(err, &pe) {
		return Fault{File: name, Line: 1, Text: "not TOML: " + err.Error() + ": " + likeThis}
	}
	msg := pe.Message
	if msg == "" {
		msg = strings.TrimPrefix(err.Error(), "toml: ")
	}
	msg = withoutValue(msg)
	do := likeThis
	if strings.Contains(msg, "already") {
		do = "write it once; sections that repeat have two brackets: [[node]], [[fence]]"
	}
	return Fault{File: name, Line: max(pe.Position.Line, 1), Text: "not TOML: " + strings.TrimSuffix(msg, ".") + ": " + do}
}

// quotedValue finds in what the reader of TOML says more than a letter of the file besides keys.
var quotedValue = regexp.MustCompile(`( found| got|nvalid \w+(?: value)?:?| numbers?:) (?:"(?:[^"\\]|\\.)*"|'[^']{3,}')(?: instead)?|^\S+( is out of )`)

// withoutValue leaves out of a message what stands in the file: it may be a secret without
// its quotes, and many may read what is said of the file.
func withoutValue(msg string) string {
	return quotedValue.ReplaceAllStringFunc(msg, func(found string) string {
		m := quotedValue.FindStringSubmatch(found)
		if m[2] != "" {
			return "it" + m[2]
		}
		if strings.HasPrefix(m[1], " ") {
			return m[1] + " something else"
		}
		return strings.TrimSuffix(m[1], ":")
	})
}

// likeThis is what to write where a line cannot be read.
const likeThis = `write key = value, text in double quotes and a list in brackets, as name = "tank", id = 1 or addr = ["10.0.0.1"]`

func (p *parser) cluster(t *table, c *Config) {
	if !t.given {
		p.fault("", `no [cluster] section: write [cluster] and name = "…" (the part of the GFS2 lock table before the colon)`)
	}
	c.Cluster = t.str("name", "")
	if t.m != nil && !clusterName.MatchString(c.Cluster) {
		t.fault("name", `name = %q cannot be used: write 1 to 32 characters of A-Z a-z 0-9 _ - (the part of the GFS2 lock table before the colon)`, c.Cluster)
	}
	c.Port = t.port("port", DefaultPort)
	c.ProbePort = t.port("probe_port", DefaultProbePort)
	c.DLMPort = t.port("dlm_port", DefaultDLMPort)
	if c.Port == c.DLMPort {
		t.fault("dlm_port", "port and dlm_port are both %d, and both are TCP: give them different numbers", c.Port)
	}
	if c.ProbePort == c.Port || c.ProbePort == c.DLMPort {
		t.fault("probe_port", "probe_port %d is used twice: give port, probe_port and dlm_port different numbers", c.ProbePort)
	}
	c.JoinGrace = t.dur("join_grace", 30*time.Second, time.Second, time.Hour)
	c.StartupFencing = membership.Startup(t.oneOf("startup_fencing", string(membership.StartupNeeded), string(membership.StartupNeeded), string(membership.StartupWait)))
	c.JoinTimeout = t.dur("join_timeout", 10*time.Second, time.Second, 10*time.Minute)
	c.ManualFence = t.oneOf("fencing", "agents", "agents", "manual") == "manual"
	c.NoKernel = t.oneOf("kernel", "dlm", "dlm", "none") == "none"
	c.KeyFile = t.file("key_file", DefaultKeyFile)
	p.group(t, c)
	p.dlmAddress(t, c)
	t.done()
}

func (p *parser) edges(events, state *table, c *Config) {
	c.EventsTo = events.str("send_to", "")
	if c.EventsTo != "" {
		if err := checkHostPort(c.EventsTo); err != nil {
			events.fault("send_to", `send_to = %q: %v: write "host:port" or "[2001:db8::1]:port"`, c.EventsTo, err)
		}
	}
	events.done()
	c.StateDir = state.file("dir", DefaultStateDir)
	state.done()
}

// warnings says what works and may surprise.
func warnings(c Config) []string {
	var out []string
	if c.ManualFence && len(c.Nodes) > 1 && c.Group != GroupStatic {
		out = append(out, manualWarning(c))
	}
	for _, n := range c.Nodes {
		if len(c.Nodes) > 1 && slices.ContainsFunc(n.Addrs, netip.Addr.IsLoopback) {
			out = append(out, fmt.Sprintf("node %s has a loopback address, which other machines cannot reach: write its address on the network", n.Name))
		}
	}
	if w := stableWarning(c); w != "" {
		out = append(out, w)
	}
	return out
}
