package cluster

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/tools/lab"
)

// Names and places in the nodes.
const (
	Name      = "lab" // of the cluster: the first part of the lock table
	Table     = "gfs" // the second: the name of the lockspace
	MountAt   = "/mnt/gfs"
	Disk      = "/dev/ubda"
	configDir = "/etc/quorate"
	binDir    = "/usr/local/sbin"
	LogFile   = "/var/log/quorated.log"
	hostMgmt  = lab.FenceAddr
	fenceLab  = "fence_lab"
	notify    = hostMgmt + ":9999" // where programs in nodes tell: lab.CollectPort
	// StableNetwork has the DLM's addresses with Options.Stable.
	StableNetwork = "10.99.0.0/24"
	// MembersFile is the list of members of Options.List.
	MembersFile = configDir + "/members"
	// OwnKey is the key file of Options.OwnKeys.
	OwnKey = "/var/lib/quorate/quorate.key"
)

// tomlFile is the one configuration file of all nodes.
func (c *Cluster) tomlFile() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[cluster]\nname = %q\n", Name)
	if c.opt.OwnKeys {
		fmt.Fprintf(&b, "key_file = %q\n", OwnKey)
	}
	fmt.Fprintf(&b, "join_grace = %q\n", c.Stretch(cmp.Or(c.opt.Grace, 10*time.Second)))
	if c.opt.Agent == "manual" {
		b.WriteString("fencing = \"manual\"\n")
	}
	if c.opt.List != nil {
		fmt.Fprintf(&b, "group = \"static\"\nmembers = %q\n", MembersFile)
	}
	if c.opt.Stable {
		fmt.Fprintf(&b, "dlm_address = \"stable\"\ndlm_network = %q\n", StableNetwork)
	}
	node := func(name string, id int, addrs ...string) {
		fmt.Fprintf(&b, "\n[[node]]\nname = %q\nid = %d\naddr = [\"%s\"]\n", name, id, strings.Join(addrs, "\", \""))
	}
	last := netip.Addr{}
	for _, n := range c.configured() {
		addrs := []string{n.Addr()}
		for l := 1; l < c.opt.Links; l++ {
			addrs = append(addrs, n.LinkAddr(l))
		}
		node(n.Name(), n.ID(), addrs...)
		last = netip.MustParseAddr(n.Addr())
	}
	for i := range c.opt.Absent {
		last = last.Next()
		node(fmt.Sprintf("absent%d", i+1), len(c.Lab.Nodes())+i+1, last.String())
	}
	if c.opt.List == nil {
		b.WriteString(c.fenceTables())
	}
	if c.opt.Quorum != "" {
		fmt.Fprintf(&b, "\n[quorum]\n%s\n", c.opt.Quorum)
	}
	fmt.Fprintf(&b, "\n[liveness]\nprofile = %q\n", c.opt.Profile)
	if c.opt.DeadAfter != 0 {
		fmt.Fprintf(&b, "dead_after = %q\n", c.Stretch(c.opt.DeadAfter))
	}
	if c.opt.Reflector != "" {
		fmt.Fprintf(&b, "reflector = %q\n", c.opt.Reflector)
	}
	fmt.Fprintf(&b, "\n[events]\nsend_to = \"%s:%d\"\n", hostMgmt, lab.CollectPort)
	return b.String()
}

// configured are the nodes that the configuration file has.
func (c *Cluster) configured() []*lab.Node {
	if c.only == nil {
		return c.Lab.Nodes()
	}
	return slices.DeleteFunc(slices.Clone(c.Lab.Nodes()), func(n *lab.Node) bool { return !slices.Contains(c.only, n.ID()) })
}

func (c *Cluster) fenceTables() string {
	if c.opt.Fences != "" {
		return "\n" + c.opt.Fences
	}
	var names, plugs []string
	for _, n := range c.configured() {
		names = append(names, fmt.Sprintf("%q", n.Name()))
		plugs = append(plugs, fmt.Sprintf("%s = %q", n.Name(), fmt.Sprint(n.ID())))
	}
	nodes := "[" + strings.Join(names, ", ") + "]"
	switch c.opt.Agent {
	case "manual":
		return ""
	case "redfish":
		return fmt.Sprintf("\n[[fence]]\nnodes = %s\nagent = \"fence_redfish\"\ntimeout = \"60s\"\n"+
			"options = { ip = %q, username = \"lab\", password = \"lab\", ssl_insecure = \"1\", systems_uri = \"/redfish/v1/Systems/{id}\" }\n", nodes, hostMgmt)
	}
	options := fmt.Sprintf("ip = %q", hostMgmt)
	if c.opt.Password != "" {
		options += fmt.Sprintf(", password = %q", c.opt.Password)
	}
	return fmt.Sprintf("\n[[fence]]\nnodes = %s\nagent = \"%s\"\ntimeout = \"%v\"\nverify = false\noptions = { %s }\nplugs = { %s }\n",
		nodes, fenceLab, c.Stretch(c.opt.FenceTimeout), options, strings.Join(plugs, ", "))
}
