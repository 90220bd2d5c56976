package recovery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/tools/cluster"
	"github.com/quorate/quorate/tools/lab"
)

// incumbent is corosync with dlm_controld, as Debian has them.
type incumbent struct {
	c   *cluster.Cluster
	set setting

	mu   sync.Mutex
	pids map[int]daemons // by node
}

// daemons are the process ids of a node's daemons.
type daemons struct{ corosync, dlm int }

// Places in the nodes.
const (
	corosyncConf   = "/etc/corosync/corosync.conf"
	dlmConf        = "/etc/dlm/dlm.conf"
	corosyncLog    = "/var/log/corosync.log"
	corosyncOut    = "/var/log/corosync.out"
	dlmControldOut = "/var/log/dlm_controld.out"
	pollEvery      = 200 * time.Millisecond // each starts a program in the node
	startLimit     = 60 * time.Second
)

func (s *incumbent) Name() string    { return "incumbent" }
func (s *incumbent) Setting() string { return s.set.name }
func (s *incumbent) Prepare()        {}
func (s *incumbent) Logs() []string {
	return []string{corosyncLog, corosyncOut, dlmControldOut, "/var/log/dlm_controld/dlm_controld.log"}
}

func (s *incumbent) Config() string {
	return "# corosync.conf\n" + corosyncFile(s.set, s.peers()) + "# dlm.conf\n" + dlmFile(s.peers())
}

func (s *incumbent) peers() (out []peer) {
	for _, n := range s.c.Lab.Nodes() {
		out = append(out, peer{n.ID(), n.Name(), n.Addr()})
	}
	return out
}

// Start starts corosync, waits for its quorum, which dlm_controld would wait for
// too, and starts dlm_controld.
func (s *incumbent) Start(ctx context.Context, node int) error {
	n := s.c.Lab.Node(node)
	for _, f := range []struct{ name, text string }{{corosyncConf, corosyncFile(s.set, s.peers())}, {dlmConf, dlmFile(s.peers())}} {
		if err := n.PutReader(ctx, strings.NewReader(f.text), f.name, 0o644); err != nil {
			return err
		}
	}
	var d daemons
	var err error
	if d.corosync, err = n.Daemon(ctx, corosyncOut, "corosync", "-f"); err != nil {
		return err
	}
	err = s.until(ctx, node, "corosync-quorumtool -s", func(text string) error {
		if !quorumReached(text) {
			return fmt.Errorf("no quorum: %q", text)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if d.dlm, err = n.Daemon(ctx, dlmControldOut, "dlm_controld", "--foreground"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pids[node] = d
	return nil
}

// until runs a program in a node again and again until its output is right.
func (s *incumbent) until(ctx context.Context, node int, program string, right func(text string) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("%s: not within %v", program, startLimit))
	defer cancel()
	return cluster.Until(ctx, pollEvery, func() error {
		r, err := s.c.Lab.Node(node).Exec(ctx, program)
		if err != nil {
			return err
		}
		return right(r.Stdout + r.Stderr)
	})
}

func (s *incumbent) Members(ctx context.Context, ask, members []int) error {
	return s.c.Each(ctx, ask, func(ctx context.Context, i int) error {
		return s.until(ctx, i, "dlm_tool status", func(text string) error {
			if got := daemonMembers(text); !slices.Equal(got, members) {
				return fmt.Errorf("dlm_controld's members are %v, not %v", got, members)
			}
			return nil
		})
	})
}

func (s *incumbent) Lockspace(ctx context.Context, ask, members []int) error {
	return s.c.Each(ctx, ask, func(ctx context.Context, i int) error {
		return s.until(ctx, i, "dlm_tool ls", func(text string) error {
			if got, ok := lockspaceMembers(text, cluster.Table); !ok || !slices.Equal(got, members) {
				return fmt.Errorf("lockspace %s does not run with %v: %q", cluster.Table, members, text)
			}
			return nil
		})
	})
}

// Leave ends dlm_controld, which does not listen while it has a lockspace, and then
// corosync, as their units do.
func (s *incumbent) Leave(ctx context.Context, node int) error {
	s.mu.Lock()
	d := s.pids[node]
	s.mu.Unlock()
	_, err := s.c.Lab.Node(node).Run(ctx, fmt.Sprintf(`while kill %d 2>/dev/null; do sleep 0.02; done
corosync-cfgtool -H --force >/dev/null && timeout 30 tail --pid=%d -s 0.02 -f /dev/null`, d.dlm, d.corosync))
	return err
}

// setting is one way of setting corosync up: what stands in its section totem
// beside what all settings have.
type setting struct{ name, totem string }

// settings are those that a comparison is fair with. Tokens below 500 ms need
// explicit pings: the automatic ones raise false alarms then.
var settings = []setting{
	{"default", ""},
	{"safe", "  token: 1000\n  token_coefficient: 0\n"},
	{"extreme", "  token: 160\n  token_coefficient: 0\n  interface {\n    linknumber: 0\n    knet_ping_interval: 400\n    knet_ping_timeout: 1600\n  }\n"},
}

func settingNames() (out []string) {
	for _, s := range settings {
		out = append(out, s.name)
	}
	return out
}

// named is the setting with a name that choose has let through.
func named(name string) setting {
	return settings[slices.IndexFunc(settings, func(s setting) bool { return s.name == name })]
}

// peer is a node, for the configuration.
type peer struct {
	id         int
	name, addr string
}

// corosyncFile is corosync.conf: nothing is encrypted, which costs the least.
func corosyncFile(s setting, peers []peer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "totem {\n  version: 2\n  cluster_name: %s\n  transport: knet\n  crypto_cipher: none\n  crypto_hash: none\n%s}\n", cluster.Name, s.totem)
	fmt.Fprintf(&b, "logging {\n  to_stderr: no\n  to_syslog: no\n  to_logfile: yes\n  logfile: %s\n  timestamp: hires\n}\n", corosyncLog)
	b.WriteString("quorum {\n  provider: corosync_votequorum\n}\nnodelist {\n")
	for _, p := range peers {
		fmt.Fprintf(&b, "  node {\n    ring0_addr: %s\n    name: %s\n    nodeid: %d\n  }\n", p.addr, p.name, p.id)
	}
	b.WriteString("}\n")
	return b.String()
}

// dlmFile is dlm.conf: the lab's fence device, asked for off and not for a reboot,
// and no delay after a join, which would be 30 s.
func dlmFile(peers []peer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "enable_startup_fencing=0\npost_join_delay=0\ndevice lab /usr/sbin/fence_lab ip=%s action=off\n", lab.FenceAddr)
	for _, p := range peers {
		fmt.Fprintf(&b, "connect lab node=%d plug=%d\n", p.id, p.id)
	}
	return b.String()
}
