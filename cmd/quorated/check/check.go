package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/fit"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/agent"
	"github.com/quorate/quorate/membership/secret"
)

// Monitor asks the fence devices of a node whether they would work.
type Monitor interface {
	Monitor(ctx context.Context, victim membership.NodeID) error
}

// Network is what is tried of the network.
type Network interface {
	// Bind takes and gives back a local port; network is tcp or udp.
	Bind(network string, at netip.AddrPort) error
	// Connect makes and drops a TCP connection.
	Connect(ctx context.Context, from netip.Addr, to netip.AddrPort) error
	// Greet is Connect to a daemon, and finds out whether that would talk to this node; it
	// makes no connection of the daemons. A tcp.RefusedError says why not.
	Greet(ctx context.Context, cfg config.Config, peer membership.NodeID, from netip.Addr, to netip.AddrPort) error
}

// Machine is what a check looks at.
type Machine struct {
	Root       fs.FS  // the machine's file system, from /
	Release    string // of the running kernel
	Interfaces func() ([]Interface, error)
	Key        func(path string) error     // reads the secret
	State      func(dir string) error      // can it be written?
	Running    func() bool                 // does a quorated answer?
	Monitor    func(config.Config) Monitor // the devices
	Network    Network
}

// This returns the machine that we are on, where a daemon would have that socket.
func This(socket string) Machine {
	return Machine{
		Root: os.DirFS("/"), Release: release(), Interfaces: interfaces,
		Key:     func(path string) error { _, err := secret.Load(path); return err },
		State:   writable,
		Running: func() bool { return answers(socket) },
		Monitor: func(c config.Config) Monitor { return agent.New(c.Config) },
		Network: realNetwork{},
	}
}

// File checks the configuration file and then the machine. node is the
// operator's -node, or empty; socket is the daemon's. It returns how many things are wrong.
func File(ctx context.Context, out io.Writer, path, node, socket string) int {
	return This(socket).File(ctx, out, path, node)
}

// Run checks this machine against a configuration that was bound, and returns
// how many things are wrong.
func Run(ctx context.Context, out io.Writer, cfg config.Config) int {
	return This(control.DefaultSocket).Run(ctx, out, cfg)
}

// File is the function File on a given machine.
func (m Machine) File(ctx context.Context, out io.Writer, path, node string) int {
	r := &report{out: out}
	cfg, err := config.Load(path)
	if err != nil {
		var faults config.Faults
		if !errors.As(err, &faults) {
			r.bad(err.Error(), "")
			return r.wrong
		}
		for _, f := range faults {
			r.bad(f.Error(), "")
		}
		return r.wrong
	}
	r.ok("%s: cluster %s, %s, %s, profile %s (%s)", path, cfg.Cluster, membership.Count(len(cfg.Nodes), "node"), membership.Count(len(cfg.Devices), "device"), cfg.Timing.Profile, cfg.ProfileWhy)
	all, err := m.Interfaces()
	if err != nil {
		r.bad(err.Error(), "look at: ip addr")
		return r.wrong
	}
	if cfg, err = cfg.Bind(addrs(all), node); err != nil {
		r.bad(err.Error(), "")
		return r.wrong
	}
	return r.wrong + m.Run(ctx, out, cfg)
}

// Run is the function Run on a given machine.
func (m Machine) Run(ctx context.Context, out io.Writer, cfg config.Config) int {
	r := &report{out: out}
	for _, w := range cfg.Warnings {
		r.note("%s", w)
	}
	if cfg.Group != config.GroupStatic {
		r.ok("quorum: %s", cfg.QuorumText())
	}
	for _, n := range cfg.Notes {
		r.note("%s", n)
	}
	for _, a := range cfg.Alike {
		r.bad(a, "")
	}
	readable(r, cfg)
	running := m.Running()
	if running {
		r.note("quorated is running: its ports are not tried, nor the DLM's port of its peers")
	}
	m.self(r, cfg)
	m.profile(r, cfg)
	if err := m.Key(cfg.KeyFile); err != nil {
		r.bad(err.Error(), "")
	} else {
		r.ok("secret %s", cfg.KeyFile)
	}
	if cfg.Group != config.GroupStatic {
		if _, err := cfg.Agreeable(); err != nil {
			r.bad(err.Error(), "")
		}
	}
	if cfg.Group == config.GroupStatic {
		m.members(r, cfg)
	} else if err := m.State(cfg.StateDir); err != nil {
		r.bad(fmt.Sprintf("state directory %s: %v", cfg.StateDir, err), "make it writable for root, on a disk that survives a reboot")
	} else {
		r.ok("state directory %s", cfg.StateDir)
	}
	if cfg.NoKernel {
		r.note("kernel = \"none\": a member without a DLM; file systems cannot be mounted here")
	} else {
		m.kernel(r)
	}
	empty := m.lockspaces(r, running)
	m.foreign(r, running)
	m.reversePath(r, cfg)
	if !running {
		m.ports(r, cfg, empty)
	}
	m.peers(ctx, r, cfg, empty && !running)
	m.devices(ctx, r, cfg)
	m.watchdog(r)
	return r.wrong
}

// report prints the lines and counts.
type report struct {
	out   io.Writer
	wrong int
}

func (r *report) ok(format string, args ...any)   { r.line("ok", fmt.Sprintf(format, args...)) }
func (r *report) note(format string, args ...any) { r.line("--", fmt.Sprintf(format, args...)) }

// bad reports what is wrong; do is empty when what says it already.
func (r *report) bad(what, do string) {
	r.wrong++
	if do != "" {
		what += " — " + do
	}
	r.line("!!", what)
}

func (r *report) line(mark, text string) {
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n     ")
	fmt.Fprintf(r.out, "%s  %s\n", mark, text)
}

// self says who we are, and what our links are on.
func (m Machine) self(r *report, cfg config.Config) {
	me, ok := cfg.Node(cfg.Self)
	if !ok {
		r.bad("it is not known which node this is", "start with -node NAME, or correct addr in the file")
		return
	}
	r.ok("this is node %s (%d)", me.Name, me.ID)
	m.links(r, cfg, me)
}

// readable says when others than root may read the secrets of a file.
func readable(r *report, cfg config.Config) {
	secrets := cfg.LiteralSecrets()
	info, err := os.Stat(cfg.Path)
	if len(secrets) == 0 || err != nil || info.Mode().Perm()&0o077 == 0 {
		return
	}
	r.note("%s has secrets in it (%s), and others may use it (mode %04o): chmod 0600 it on every node, or keep them in files of their own (password_file)", cfg.Path, strings.Join(secrets, ", "), info.Mode().Perm())
}

// profile says when the times are shorter than what this machine may stand still for.
func (m Machine) profile(r *report, cfg config.Config) {
	if what := fit.Machine(m.Root); what != "" && cfg.Timing.DeadAfter < fit.Least {
		r.note("profile %s has dead_after = %s, and of this machine: %s; one that stands still for longer, as when it is migrated or snapshotted, is fenced: see profile = \"vm\"",
			cfg.Timing.Profile, membership.Short(cfg.Timing.DeadAfter), what)
	}
}

// members reads the list of members. A group that works by one keeps no state.
func (m Machine) members(r *report, cfg config.Config) {
	from, read := "all nodes of "+cfg.Path, cfg.Members
	if cfg.MembersFile != "" {
		from = cfg.MembersFile
		read = func() ([]membership.NodeID, error) {
			return cfg.MembersFrom(fs.ReadFile(m.Root, strings.TrimPrefix(from, "/")))
		}
	}
	ids, err := read()
	if err != nil {
		r.bad(err.Error(), "")
		return
	}
	var names []string
	for _, id := range ids {
		names = append(names, cfg.Name(id))
	}
	r.ok("group static, by %s: %s", from, strings.Join(names, " "))
	r.note("no election, no fencing, no memory: every listed node is needed, and who is taken off the list is taken for dead")
}

// devices asks every node's fence devices.
func (m Machine) devices(ctx context.Context, r *report, cfg config.Config) {
	if len(cfg.Devices) == 0 {
		r.note("no fence devices to ask")
		return
	}
	mon := m.Monitor(cfg)
	nodes := slices.DeleteFunc(slices.Clone(cfg.Nodes), func(n membership.Node) bool {
		return !slices.ContainsFunc(cfg.Devices, func(d membership.Device) bool { return slices.Contains(d.Nodes, n.ID) })
	})
	errs := parallel(nodes, func(n membership.Node) error { return mon.Monitor(ctx, n.ID) })
	same := map[string][]string{} // names of the nodes, by what is wrong
	for i, n := range nodes {
		if errs[i] != nil {
			same[errs[i].Error()] = append(same[errs[i].Error()], n.Name)
		}
	}
	for i, n := range nodes {
		if errs[i] == nil {
			r.ok("fence devices of %s answer", n.Name)
			continue
		}
		what := errs[i].Error()
		if names := same[what]; names[0] == n.Name { // the others have it in this line
			r.bad(fmt.Sprintf("fence devices of %s: %s", strings.Join(names, ", "), what), fenceDo(names))
		}
	}
}

// fenceDo says what to do about fence devices that would not work.
func fenceDo(names []string) string {
	whose, when := "its", names[0]+" stays locked when it dies"
	if len(names) > 1 {
		whose, when = "their", "each of them stays locked when it dies"
	}
	return "correct " + whose + " [[fence]], or repair the device: without it the storage of " + when
}
