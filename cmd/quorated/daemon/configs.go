package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/liveness"
	"github.com/quorate/quorate/membership/quorum"
	"github.com/quorate/quorate/membership/secret"
)

// parseAgreed is node.Replicated.Parse.
func parseAgreed(text string) (membership.Config, error) {
	c, err := config.ParseAgreed(text)
	return c.Config, err
}

// begin finds what this node works by from its start: the newest configuration that
// was agreed on, as far as it is known here, else its file. A log that was lost is of
// no cluster: then nothing is agreed on before it has joined again.
func (d *Daemon) begin(clusterID string) (*node.Replicated, error) {
	text, err := d.cfg.Agreeable()
	if err != nil {
		return nil, err
	}
	r := &node.Replicated{Text: text, Parse: parseAgreed}
	k, ok, err := readKept(logDir(d.cfg))
	if err != nil {
		d.log.Error("the file is used, until the cluster says what is in force", "err", err)
	}
	if !ok {
		return r, nil
	}
	c, missing, err := config.Effective(k.text, d.cfg)
	if err != nil {
		return nil, fmt.Errorf("version %d of the configuration, which was agreed on, cannot be read by this quorated; install the version that the other nodes have: %w", k.version, err)
	}
	if c.Cluster != d.cfg.Cluster {
		return nil, fmt.Errorf("%w: %s says name = %q, and the log of this node, %s, is of cluster %q: write that name, or move the log away to join another cluster with this machine",
			config.ErrSelf, d.cfg.Path, d.cfg.Cluster, logDir(d.cfg), c.Cluster)
	}
	if _, ok := c.Node(d.cfg.Self); !ok {
		return nil, fmt.Errorf("%w: version %d of the configuration, which was agreed on, has node %s no more: after `quorate node add` on another node, remove the log, %s, here", config.ErrSelf, k.version, d.cfg.Name(d.cfg.Self), logDir(d.cfg))
	}
	r.Text = k.text
	if k.cluster == clusterID {
		r.Version = k.version
	}
	d.workBy(c, missing)
	return r, nil
}

// workBy makes a configuration the one in force here. Its callers see to the rest.
func (d *Daemon) workBy(c config.Config, missing []string) {
	if len(missing) > 0 {
		c.Warnings = append(c.Warnings, missingSecrets(c.Path, missing)+"; a secret in the file is read when quorated starts and when another version comes into force")
	}
	d.cfg = c
	d.shown.Store(&c)
	if f, ok := d.fencer.(interface{ Configure(membership.Config) }); ok {
		f.Configure(c.Config)
	}
}

func missingSecrets(path string, missing []string) string {
	return fmt.Sprintf("this node does not know the secrets of its fence devices: %s: write each with its [[fence]] into %s here, or have password_file agreed on with `quorate config apply`", strings.Join(missing, ", "), path)
}

// ownFile is this node's file as it is now, for its secrets; where it cannot be read, as it was.
func (d *Daemon) ownFile() config.Config {
	c, err := config.Load(d.opt.Config.Path)
	if err != nil {
		return d.opt.Config
	}
	own := d.opt.Config
	own.Devices = c.Devices
	return own
}

// checkConfig finds out whether this node could work by a text.
func (d *Daemon) checkConfig(e node.CheckConfig) {
	now := d.cfg
	d.async(func() { d.post(node.ConfigChecked{Ask: e.Ask, Why: text(d.workable(now, e))}) })
}

func (d *Daemon) workable(now config.Config, e node.CheckConfig) error {
	c, missing, err := config.Effective(e.Text, d.ownFile())
	if err != nil {
		return err
	}
	if err := config.Public(e.Text); err != nil {
		return err
	}
	if err := config.CheckChange(now, c, e.Replace); err != nil {
		return err
	}
	if err := errors.Join(liveness.CheckTiming(c.Timing), quorum.New(c.Config).Check()); err != nil {
		return err
	}
	if len(missing) > 0 {
		return errors.New(missingSecrets(c.Path, missing))
	}
	if _, err := secret.Load(c.KeyFile); err != nil {
		return err
	}
	return d.ready(c)
}

// ready says what this node lacks for its fence devices: it may be the one that has to use them.
func (d *Daemon) ready(c config.Config) error {
	f, ok := d.fencer.(interface {
		Ready(membership.Device) error
	})
	var said []string
	for _, dev := range c.Devices {
		if !ok {
			break
		}
		if err := f.Ready(dev); err != nil && !slices.Contains(said, err.Error()) {
			said = append(said, err.Error())
		}
	}
	if len(said) == 0 {
		return nil
	}
	return errors.New(strings.Join(said, "; "))
}

// reconfigure works by a version that is in force: everything that this process does
// with others is told of it, and the next start begins with it.
func (d *Daemon) reconfigure(e node.Reconfigure) error {
	own := d.ownFile()
	c, missing, err := config.Effective(e.Text, own)
	if err != nil {
		return fmt.Errorf("%w: version %d of the configuration: %w", ErrBroken, e.Version, err)
	}
	d.workBy(c, missing)
	if err := d.comm.SetNodes(c.Nodes); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	d.comm.SetVersion(e.Version)
	d.carry.Retime(c.Timing)
	for _, n := range c.Nodes { // the Comm forgets that of nodes which are elsewhere now
		d.comm.Avoid(n.ID, d.carry.Avoid(n.ID))
	}
	if err := d.prober.SetNodes(c.Nodes, c.Timing.Interval); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	d.retimeReflector(c)
	d.witness.SetCluster(d.introduction())
	if d.stable != nil {
		d.stable.keeper.Set(routes(c, &d.stable.paths))
	}
	if k, ok := d.kernel.(addressed); ok {
		if err := k.SetAddrs(dlmAddrs(c), linkAddrs(c)); err != nil {
			return fmt.Errorf("%w: %w", ErrBroken, err)
		}
	}
	if err := keep(logDir(d.cfg), kept{e.Version, d.clusterID(), e.Text}); err != nil {
		d.log.Error("the next start begins with an older configuration, and is brought up to date by the others", "err", err)
	}
	return nil
}

// addressed is a kernel whose DLM talks to the other nodes.
type addressed interface {
	SetAddrs(addrs, links map[membership.NodeID][]netip.Addr) error
}

var _ addressed = (*dlm.Driver)(nil)

// dlmAddrs are the addresses of the kernel's DLM, whose TCP uses one of each node.
func dlmAddrs(c config.Config) map[membership.NodeID][]netip.Addr {
	addrs := map[membership.NodeID][]netip.Addr{}
	for _, n := range c.Nodes {
		addrs[n.ID] = []netip.Addr{c.DLMAddr(n)}
	}
	return addrs
}

// linkAddrs are the nodes' own addresses, over which the DLM's stable ones are reached.
func linkAddrs(c config.Config) map[membership.NodeID][]netip.Addr {
	addrs := map[membership.NodeID][]netip.Addr{}
	for _, n := range c.Nodes {
		addrs[n.ID] = n.Addrs
	}
	return addrs
}

// configShow gives an agreed version, and which others are known.
func (d *Daemon) configShow(ctx context.Context, req control.Request) control.Response {
	var c cluster.Config
	var ok bool
	var r control.Response
	err := d.do(ctx, func() {
		c, ok = d.node.ConfigVersion(req.Version)
		r.Configs = d.node.ConfigVersions()
	})
	switch {
	case err != nil:
		return control.Response{Error: "the daemon is ending"}
	case d.cfgNow().Group == config.GroupStatic:
		return control.Response{Error: `with group = "static" nothing is agreed on: the configuration is each node's file, ` + d.cfgNow().Path + ": change it everywhere, then start the daemons anew, each after unmounting"}
	case !ok && req.Version == 0:
		return control.Response{Error: "the cluster has not agreed on a configuration yet; see `quorate why`"}
	case !ok:
		return control.Response{Error: fmt.Sprintf("version %d is not known (any more); see `quorate config show --list`", req.Version)}
	}
	r.Config, r.Text, r.Path = c.Version, c.Text, d.filePath()
	if file, err := config.Load(d.opt.Config.Path); err == nil {
		r.Notes = otherSecrets(file, d.cfgNow())
	}
	if req.Own {
		r.Text = config.WithOwn(c.Text, d.cfgNow())
	}
	return r
}

// filePath is where this node's file is, for those who run elsewhere.
func (d *Daemon) filePath() string {
	path, err := filepath.Abs(d.opt.Config.Path)
	if err != nil { // there is no working directory any more
		return d.opt.Config.Path
	}
	return path
}

// cfgNow is the configuration in force, for those outside the loop.
func (d *Daemon) cfgNow() config.Config {
	if c := d.shown.Load(); c != nil {
		return *c
	}
	return d.cfg
}

// fileDiffers warns of a file that is not what is in force.
func (d *Daemon) fileDiffers(version uint64) []string {
	if version == 0 {
		return nil
	}
	c, err := config.Load(d.opt.Config.Path)
	if err != nil {
		return []string{fmt.Sprintf("%v; version %d of the agreed configuration is in force", err, version)}
	}
	notes := otherSecrets(c, d.cfgNow())
	if text := config.Differs(c, d.cfgNow(), version); text != "" {
		notes = append(notes, text)
	}
	return notes
}

func otherSecrets(file, now config.Config) []string {
	if text := config.OtherSecrets(file, now); text != "" {
		return []string{text}
	}
	return nil
}
