package importer_test

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/config/importer"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

const samples = "../../../../testdata/import"

// hosts are what the tests' resolver knows.
var hosts = map[string][]string{
	"alpha.example.net": {"10.0.0.1"}, "alpha-b.example.net": {"fd00::1", "10.0.1.1"},
	"beta.example.net": {"10.0.0.2"}, "beta-b.example.net": {"fd00::2", "10.0.1.2"},
	"gamma.example.net": {"10.0.0.3", "fd00:1::3"}, "gamma-b.example.net": {"10.0.1.3"},
	"local": {"127.0.1.1", "::1"}, "nobody": {},
}

func resolve(name string) ([]netip.Addr, error) {
	all, ok := hosts[name]
	if !ok {
		return nil, errors.New("no such host")
	}
	var out []netip.Addr
	for _, a := range all {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, nil
}

var options = importer.Options{Secret: config.SecretOption, Resolve: resolve, Suggest: config.Suggest}

// files reads the incumbents' files of a sample, in the order of the command.
func files(t *testing.T, dir string) []importer.File {
	t.Helper()
	var out []importer.File
	for _, name := range []string{"corosync.conf", "cluster.conf", "dlm.conf"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, importer.File{Name: name, Data: data})
	}
	return out
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != got {
		t.Errorf("got\n%s\nwant\n%s(%v)", got, want, err)
	}
}

// hush looks for what must never be shown: all secrets of the samples are of
// these words.
func hush(t *testing.T, text string) {
	t.Helper()
	if s := regexp.MustCompile(`(?i)xyzzy|plugh`).FindString(text); s != "" {
		t.Errorf("a secret is shown: %s", s)
	}
}

// Of what was made, config does not know yet options that name a file with a secret.
// They are tried apart, as TOML.
var secretFile = regexp.MustCompile(`([a-z_]+)_file = "/etc/quorate/[A-Za-z0-9_.-]+\.secret"`)

// accepted parses what was made as the daemon does.
func accepted(t testing.TB, text string) config.Config {
	t.Helper()
	var tree map[string]any
	if err := toml.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatalf("not TOML: %v\n%s", err, text)
	}
	if c, err := config.Parse("quorate.toml", []byte(text)); err == nil {
		return c
	}
	text = secretFile.ReplaceAllString(text, `${1}_script = "/x"`)
	c, err := config.Parse("quorate.toml", []byte(text))
	if err != nil {
		t.Fatalf("config does not take what was made: %v\n%s", err, text)
	}
	return c
}

func TestSamples(t *testing.T) {
	for sample, want := range map[string]struct {
		nodes, devices int
		manual         bool
	}{"two-nodes": {2, 6, false}, "five-nodes": {5, 0, true}, "dual-power": {3, 6, true}} {
		t.Run(sample, func(t *testing.T) {
			dir := filepath.Join(samples, sample)
			r, err := importer.Import(files(t, dir), options)
			if err != nil {
				t.Fatal(err)
			}
			text := string(r.TOML)
			golden(t, filepath.Join(dir, "quorate.toml"), text)
			hush(t, text+strings.Join(r.Todo, "\n"))
			c := accepted(t, text)
			if len(c.Nodes) != want.nodes || len(c.Devices) != want.devices || c.ManualFence != want.manual {
				t.Errorf("%d nodes, %d devices, manual %v", len(c.Nodes), len(c.Devices), c.ManualFence)
			}
		})
	}
}

func TestBroken(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(samples, "bad", "*"))
	if err != nil || len(dirs) < 4 {
		t.Fatalf("%d samples, %v", len(dirs), err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			_, err := importer.Import(files(t, dir), importer.Options{Secret: config.SecretOption})
			if !errors.Is(err, importer.ErrInvalid) {
				t.Fatalf("not refused: %v", err)
			}
			hush(t, err.Error())
			golden(t, filepath.Join(dir, "faults.golden"), err.Error()+"\n")
		})
	}
}

// made converts a corosync.conf and perhaps a dlm.conf.
func made(t *testing.T, corosync, dlm string) string {
	t.Helper()
	fs := []importer.File{{Name: "/etc/corosync/corosync.conf", Data: []byte(corosync)}}
	if dlm != "" {
		fs = append(fs, importer.File{Name: "/etc/dlm/dlm.conf", Data: []byte(dlm)})
	}
	r, err := importer.Import(fs, options)
	if err != nil {
		t.Fatal(err)
	}
	accepted(t, string(r.TOML))
	return string(r.TOML)
}

func contains(t *testing.T, text string, want ...string) {
	t.Helper()
	flat := strings.Join(strings.Fields(strings.ReplaceAll(text, "\n#", " ")), " ") // comments are folded
	for _, w := range want {
		if w, no := strings.CutPrefix(w, "!"); strings.Contains(flat, w) == no {
			t.Errorf("%q should be there: %v\n%s", w, !no, text)
		}
	}
}

const (
	head  = "totem {\nversion: 2\ncluster_name: c\n}\n"
	three = "nodelist {\nnode {\nring0_addr: 10.0.0.1\nnodeid: 1\nname: a\n}\nnode {\nring0_addr: 10.0.0.2\nnodeid: 2\nname: b\n}\nnode {\nring0_addr: 10.0.0.3\nnodeid: 3\nname: c\n}\n}\n"
)

func totem(lines string) string { return strings.Replace(head, "}\n", lines+"\n}\n", 1) + three }

func quorum(lines string) string { return head + three + "quorum {\n" + lines + "\n}\n" }

func TestToken(t *testing.T) {
	for token, want := range map[string]string{
		"100": `profile = "lan"`, "200": `profile = "lan"`, "201": `dead_after = "201ms"`, "999": `dead_after = "999ms"`,
		"1000": `profile = "safe"`, "5000": `profile = "safe"`, "5001": `profile = "vm"`,
	} {
		contains(t, made(t, totem("token: "+token), ""), want, "totem.token "+token+" ms")
	}
	contains(t, made(t, head+three, ""), "![liveness]")
	contains(t, made(t, totem("token: 700\ntoken: 3000"), ""), `profile = "safe"`, "!dead_after")
}

func TestTotem(t *testing.T) {
	text := made(t, totem("key: Xyzzy\nknet_compression_model: zlib\nnever_heard_of: Xyzzy\ninterface {\nknet_transport: sctp\nodd: 1\n}")+"resources {\n}\nfuture {\nx: 1\n}\n", "")
	hush(t, text)
	contains(t, text, "totem.key (corosync.conf:4): what the daemons say", "totem.knet_compression_model", "totem.never_heard_of", "totem.interface.knet_transport",
		"totem.interface.odd", "resources { }", "future { } (corosync.conf:", "no quorum { }")
}

func TestQuorum(t *testing.T) {
	for lines, want := range map[string][]string{
		"provider: corosync_votequorum":                                             {"![quorum]"},
		"provider: other":                                                           {"quorum.provider"},
		"wait_for_all: 0\nwait_for_all: 1":                                          {"[quorum] wait_for_all = true", "!wait_for_all = false"},
		"last_man_standing: 1\nauto_tie_breaker: 1":                                 {`auto_tie_breaker = "lowest" # corosync.conf:24`},
		"expected_votes: 4\nauto_tie_breaker: 1":                                    {"[quorum] expected_votes = 4", "auto_tie_breaker is for halves of the nodes"},
		"auto_tie_breaker: 0\nauto_tie_breaker_node: 2":                             {"!auto_tie_breaker =", "looks at it with auto_tie_breaker: 1 only"},
		"last_man_standing: 1\nauto_tie_breaker: 1\nauto_tie_breaker_node: 3 1 3":   {`auto_tie_breaker = ["c", "a"] # corosync.conf:25`},
		"last_man_standing: 1\nauto_tie_breaker: 1\nauto_tie_breaker_node: highest": {`auto_tie_breaker = "highest" # corosync.conf:25`},
		"last_man_standing: 1\nlast_man_standing_window: 60000":                     {"[quorum] last_man_standing = true", `last_man_standing_window = "1m" #`},
		"allow_downscale: 1\nexpected_votes_tracking: 1":                            {"[quorum] leave_removes_vote = true", "quorum.expected_votes_tracking"},
		"expected_votes: 7\nvotes: 2":                                               {"[quorum] expected_votes = 7", "votes = 2"},
		"expected_votes: 4\ndevice {\nmodel: net\nvotes: 1\nnet {\nhost: q\n}\n}":   {"![quorum]", "of model net", `kernel = "none"`, "replace the vote"},
		"odd {\n}": {"quorum.odd { }"},
	} {
		contains(t, made(t, quorum(lines), ""), want...)
	}
	pair := head + "nodelist {\nnode {\nring0_addr: 10.0.0.1\nnodeid: 1\nname: a\n}\nnode {\nring0_addr: 10.0.0.2\nnodeid: 2\nname: b\nquorum_votes: 1\n}\n}\n"
	for lines, want := range map[string][]string{
		"":                             {"two_node = false", "of two nodes both are needed"},
		"two_node: 0":                  {"two_node = false # corosync.conf:19: quorum.two_node"},
		"two_node: 1\nwait_for_all: 0": {"[quorum] two_node = true", "wait_for_all = false"},
		"two_node: 1\nwait_for_all: 1": {"[quorum] two_node = true", "wait_for_all = true"},
		"auto_tie_breaker: 1":          {`auto_tie_breaker = "lowest" #`, "!two_node"},
	} {
		contains(t, made(t, pair+"quorum {\n"+lines+"\n}\n", ""), want...)
	}
}

// What votequorum allows, or switches off by itself, and quorate refuses, is a note
// with the reason.
func TestRulesThatCannotHold(t *testing.T) {
	for lines, want := range map[string][]string{
		"two_node: 1":                                         {"two_node = true (corosync.conf:23): two_node is for exactly two nodes"},
		"auto_tie_breaker: 1":                                 {`auto_tie_breaker = "lowest" (corosync.conf:23): auto_tie_breaker decides between two equal halves`},
		"last_man_standing_window: 5000":                      {`last_man_standing_window = "5s" (corosync.conf:23): it does nothing without`},
		"last_man_standing: 1\nvotes: 2":                      {"last_man_standing = true (corosync.conf:23): last_man_standing needs one vote"},
		"expected_votes: 2":                                   {"expected_votes = 2 (corosync.conf:23): expected votes are 2 and the nodes have 3"},
		"two_node: 1\nauto_tie_breaker: 1\nexpected_votes: 2": {"two_node = true (", "auto_tie_breaker = ", "expected_votes = 2 ("},
	} {
		contains(t, made(t, quorum(lines), ""), append(want, "![quorum]")...)
	}
	if got := refused(t, options, quorum("votes: 0")); !strings.Contains(got, "first:6: no node has a vote") {
		t.Error(got)
	}
}

func TestNodes(t *testing.T) {
	one := func(lines string) string { return head + "nodelist {\nnode {\n" + lines + "\n}\n}\n" }
	for lines, want := range map[string][]string{
		"ring0_addr: 10.0.0.1":                                {`name = "node-1"`, "id = 1", "nodeid", "short host name", "!fencing ="},
		"ring0_addr: alpha.example.net\nnodeid: 5":            {`name = "alpha.example.net"`, "id = 5", `addr = ["10.0.0.1"]`, "as this machine resolved it"},
		"ring0_addr: ::ffff:10.0.0.1\nnodeid: 5\nname: x":     {`addr = ["10.0.0.1"]`},
		"ring0_addr: gamma.example.net\nname: g":              {`addr = ["fd00:1::3"]`}, // corosync prefers IPv6
		"ring0_addr: 10.0.0.1\nname: g\nquorum_votes: 2":      {"votes = 2"},
		"ring0_addr: 10.0.0.1\nname: g\ncolour: Xyzzy":        {"nodelist.node.colour"},
		"ring0_addr: 10.0.0.1\nring1_addr: 10.1.0.1\nname: g": {`addr = ["10.0.0.1", "10.1.0.1"]`},
	} {
		contains(t, made(t, one(lines), ""), want...)
	}
	contains(t, made(t, "totem {\ncluster_name: c\nip_version: ipv4\n}\nnodelist {\nnode {\nring0_addr: gamma.example.net\nname: g\n}\n}\n", ""), `addr = ["10.0.0.3"]`)
}

// refused are the faults of a corosync.conf and perhaps a dlm.conf.
func refused(t *testing.T, o importer.Options, text ...string) string {
	t.Helper()
	var fs []importer.File
	for i, x := range text {
		fs = append(fs, importer.File{Name: []string{"first", "second", "third"}[i], Data: []byte(x)})
	}
	r, err := importer.Import(fs, o)
	var faults importer.Faults
	if !errors.As(err, &faults) || !errors.Is(err, importer.ErrInvalid) || r.TOML != nil {
		t.Fatalf("not refused: %v\n%s", err, r.TOML)
	}
	return err.Error()
}

func TestRefused(t *testing.T) {
	node := func(addr string) string {
		return head + "nodelist {\nnode {\nring0_addr: " + addr + "\nname: x\n}\n}\n"
	}
	many := head + "nodelist {\n"
	for range 33 {
		many += "node {\nring0_addr: 10.0.0.1\n}\n"
	}
	for _, c := range []struct {
		want string
		text []string
	}{
		{"0 files were given", nil},
		{"3 files were given", []string{"", "", ""}},
		{"first:1: larger than 1048576 bytes", []string{strings.Repeat("#", importer.MaxSize+1)}},
		{"first:1: not a text file", []string{"totem {\x00"}},
		{"first:1: no cluster_name", []string{""}},
		{"first:1: no nodelist", []string{head}},
		{"first:5: nodelist { } has no node", []string{head + "nodelist {\n}\n"}},
		{"first:1: this is a dlm.conf", []string{"# x\nenable_fencing=1\n"}},
		{"first:1: this is a dlm.conf", []string{"device a fence_a\nconnect a node=1\n", head}},
		{"second:1: a second file beside first", []string{"<cluster name='a'/>", "x=1"}},
		{"first:1: the first element is <cib>", []string{"<cib/>"}},
		{"no <clusternode>", []string{"<cluster name='a'/>"}},
		{"first:1: not XML", []string{"<cluster name='Xyzzy>"}},
		{"first:1: not XML in UTF-8", []string{"<?xml version='1.0' encoding='latin1'?><cluster/>"}},
		{"first:2: a second element", []string{"<cluster/>\n<cluster/>"}},
		{"first:17: elements are nested too deep", []string{strings.Repeat("<cluster>\n", 40)}},
		{"no element at all", []string{"<!-- x -->"}},
		{"sections are nested too deep", []string{strings.Repeat("x {\n", 40)}},
		{"first:1: token stands outside of any section", []string{"token: 1\n" + head + three}},
		{"a value without a key", []string{"totem {\n: 2\n}\n"}},
		{`"nowhere" cannot be resolved here: no such host`, []string{node("nowhere")}},
		{`"nobody" has no address`, []string{node("nobody")}},
		{`"local" is resolved to 127.0.1.1 here`, []string{node("local")}},
		{"address 224.0.0.1 is not that of one node", []string{node("224.0.0.1")}},
		{"ring8_addr: rings are numbered", []string{head + "nodelist {\nnode {\nring0_addr: 10.0.0.1\nring8_addr: 10.0.0.2\n}\n}\n"}},
		{"node { } without an address", []string{head + "nodelist {\nnode {\nname: x\n}\n}\n"}},
		{"33 nodes: quorate takes 32", []string{many + "}\n"}},
		{"ip_version: ipx", []string{totem("ip_version: ipx")}},
		{"auto_tie_breaker_node without a value", []string{quorum("auto_tie_breaker: 1\nauto_tie_breaker_node:")}},
		{`"gamma-b.example.net" has no IPv6 address`, []string{"totem {\ncluster_name: c\nip_version: ipv6\n}\nnodelist {\nnode {\nring0_addr: gamma-b.example.net\n}\n}\n"}},
		{"second:2: unfence a does not follow", []string{head + three, "device b fence_b\nunfence a\n"}},
		{"more than 9 devices", []string{head + three, devices(10)}},
	} {
		got := refused(t, options, c.text...)
		if hush(t, got); !strings.Contains(got, c.want) {
			t.Errorf("%q is not in\n%s", c.want, got)
		}
	}
}

// devices are n devices for node 1, one after the other.
func devices(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "device d%d fence_x\nconnect d%d node=1\n\n", i, i)
	}
	return b.String()
}

// each is a device for all three nodes.
func each(name, agent, args string) string {
	text := "device " + name + " " + agent + " " + args + "\n"
	for i := range 3 {
		text += fmt.Sprintf("connect %s node=%d\n", name, i+1)
	}
	return text + "\n"
}

func TestLevels(t *testing.T) {
	dlm := each("ipmi", "fence_ipmilan", "ip=1") + each("pdu:1", "/sbin/fence_apc", "ip=2") + each("pdu:2", "/opt/fence_apc", "ip=3") +
		"device san /opt/bin/cut\nconnect san node=2\n"
	c := accepted(t, made(t, head+three, dlm))
	got := ""
	for _, d := range c.Devices {
		got += fmt.Sprintf("%d%s%d ", d.Nodes[0], d.Agent, d.Level)
	}
	want := "1fence_ipmilan1 2fence_ipmilan1 3fence_ipmilan1 1fence_apc2 2fence_apc2 3fence_apc2 1/opt/fence_apc2 2/opt/fence_apc2 3/opt/fence_apc2 2/opt/bin/cut3 "
	if got != want {
		t.Errorf("%s", got)
	}
	// The same device is of another level where it stands alone.
	text := made(t, head+three, "device x fence_x\nconnect x node=1\n\ndevice y fence_y\nconnect y node=1\nconnect y node=2\nconnect y node=3\n")
	contains(t, text, `nodes = ["a"] agent = "fence_y" level = 2`, `nodes = ["b", "c"] agent = "fence_y" level = 1`)
}

func TestDevices(t *testing.T) {
	for args, want := range map[string][]string{
		"fence_x passwd=":                       {"!password_file", "options = {}"},
		"fence_x passwd=Xyzzy":                  {`password_file = "/etc/quorate/fence-dev.secret"`, "put the password of fence device dev, which is in dlm.conf:1"},
		"fence_x passwd_script=/etc/p.sh":       {`password_script = "/etc/p.sh"`, "!.secret"},
		"/opt/cut ipaddr=1 passwd=Xyzzy port=7": {`ipaddr = "1"`, `passwd_file = "/etc/quorate/fence-dev-passwd.secret"`, `port = "7"`},
		"fence_x action=reboot":                 {`{ action = "reboot" }`, "!An agent's own default"},
		"fence_x option=off":                    {"options = {}"},
		"fence_x action=diag":                   {`!{ action`, "see that fence device dev can do off"},
		"fence_x ip={name}":                     {"!ip =", "write option ip of fence device dev by hand"},
		"fence_x delay=10 power_wait=4":         {`timeout = "44s"`},
		"fence_x delay=99999999":                {"!timeout"},
		"fence_xvm key_file=/etc/x":             {"!key_file =", "see where fence_xvm looks for what key_file named"},
		"dlm_stonith":                           {"it asks Pacemaker", `fencing = "manual"`},
		`fence_x ip=a"b\c`:                      {`ip = "a\"b\\c"`},
	} {
		contains(t, made(t, head+three, each("dev", args, "")), want...)
	}
	contains(t, made(t, head+three, "fence_all fence_x ip=1\nunfence_all\n"), `nodes = ["a", "b", "c"]`, "see how fence_x is told whom to fence", "unfence_all")
	// Secrets of connections, and of devices whose names are one in a file's name.
	text := made(t, head+three, "device d/e fence_x\nconnect d/e node=1 passwd=Xyzzy\nconnect d/e node=2 passwd=Plugh\n\ndevice d-e fence_x passwd=Xyzzy\nconnect d-e node=1\n\ndevice d*e fence_x passwd=Plugh\nconnect d*e node=1\n")
	hush(t, text)
	contains(t, text, "fence-d-e-a.secret", "fence-d-e-b.secret", "fence-d-e.secret", "fence-d-e-2.secret", "No fence device was carried over for c.")
}

func TestSettings(t *testing.T) {
	for line, want := range map[string][]string{
		"post_join_delay=0":        {`join_grace = "1s"`},
		"enable_fencing=0":         {`fencing = "manual"`, "quorate never recovers without proof"},
		"enable_fencing=1":         {"!enable_fencing"},
		"enable_startup_fencing=1": {"which is the default here"},
		"enable_startup_fencing=0": {`startup_fencing = "wait"`},
		"enable_quorum_fencing=0":  {"always take a quorum"},
		"protocol=sctp":            {"SCTP's second path"},
		"protocol=tcp":             {"!protocol"},
		"port=21070":               {"dlm_port = 21070"},
		"plock_ownership=1":        {"POSIX locks are not served"},
		"node id=1 mark=42":        {"node (dlm.conf:"},
		"passwd=Xyzzy":             {"passwd (dlm.conf:"},
	} {
		text := made(t, head+three, each("d", "fence_x", "")+line+"\n")
		hush(t, text)
		contains(t, text, want...)
	}
}

// cluster is a cluster.conf of two nodes with something in it.
func cluster(in string) string {
	return "<cluster name='c'>" + in + "<clusternodes><clusternode name='10.0.0.1' nodeid='1'/><clusternode name='beta.example.net' nodeid='2' votes='3'/></clusternodes></cluster>"
}

func TestCman(t *testing.T) {
	for in, want := range map[string][]string{
		"": {`name = "10.0.0.1"`, `name = "beta.example.net"`, "votes = 3"},
		"<cman two_node='1' expected_votes='1'/>": {"two_node = true", "!expected_votes ="},
		"<cman expected_votes='4'/>":              {"expected_votes = 4"},
		"<cman expected_votes='4' port='5405' keyfile='/x' odd='1'><multicast addr='239.0.0.1'/></cman><quorumd label='q'/>": {"!expected_votes =", "<quorumd>", "<cman port>", "<cman keyfile>", "<cman odd>", "<cman><multicast>"},
		"<totem token='10000' consensus='1' rrp_mode='x' rrp_x='1' odd='1'><interface/></totem>":                             {`profile = "vm"`, "<totem consensus>", "<totem rrp_x>", "<totem odd>", "<totem><interface>"},
		"<fence_daemon post_join_delay='-1' clean_start='1' skip_undefined='1' override_path='/x' odd='1'/>":                 {`startup_fencing = "wait"`, "clean_start=1", "skip_undefined=1", "override_path", "<fence_daemon odd>"},
		"<fence_daemon post_join_delay='20' clean_start='0'/>":                                                               {`join_grace = "20s"`, "!clean_start"},
		"<dlm protocol='sctp' enable_fencing='0' enable_quorum='1'><lockspace name='x'/></dlm>":                              {`fencing = "manual"`, "SCTP", "<dlm enable_quorum>", "<dlm><lockspace>"},
		"<gfs_controld/><logging debug='on'/><odd/>":                                                                         {"<gfs_controld>", "<logging>", "<odd>"},
	} {
		r, err := importer.Import([]importer.File{{Name: "cluster.conf", Data: []byte(cluster(in))}}, options)
		if err != nil {
			t.Fatal(err)
		}
		accepted(t, string(r.TOML))
		contains(t, string(r.TOML), want...)
	}
}

// One device twice in a method, for a node with two outlets of one strip, is two
// sections: both must be off.
func TestTwoOutlets(t *testing.T) {
	text := `<cluster name="c"><clusternodes><clusternode name="10.0.0.1" nodeid="1"><fence><method name="1">
<device name="pdu" port="1" action="reboot"/><device name="pdu" port="2"/></method></fence></clusternode></clusternodes>
<fencedevices><fencedevice name="pdu" agent="fence_apc"/></fencedevices></cluster>`
	r, err := importer.Import([]importer.File{{Name: "cluster.conf", Data: []byte(text)}}, options)
	if err != nil {
		t.Fatal(err)
	}
	c := accepted(t, string(r.TOML))
	if len(c.Devices) != 2 || c.Devices[0].Options["plug"] != "1" || c.Devices[1].Options["plug"] != "2" || c.Devices[0].Level != 1 || c.Devices[1].Level != 1 {
		t.Errorf("%+v", c.Devices)
	}
	if c.Devices[0].Options["action"] != "" {
		t.Error("two outlets of a node are not rebooted one after the other")
	}
	contains(t, string(r.TOML), "never leave it without power")
}

// What nobody knows may be a slip for what somebody does: it is to be looked at.
func TestUnknownKeysAreToBeDone(t *testing.T) {
	for _, c := range []struct{ conf, dlm, want string }{
		{quorum("two_nodes: 1"), "", `corosync.conf:23: quorum.two_nodes is not known, and does nothing here (did you mean "two_node"?)`},
		{quorum("devise {\n}"), "", `quorum.devise { } is not known, and does nothing here (did you mean "device"?)`},
		{totem("tokn: 5000"), "", `totem.tokn is not known, and does nothing here (did you mean "token"?)`},
		{totem("interface {\nringnumbr: 0\n}"), "", `totem.interface.ringnumbr is not known, and does nothing here (did you mean "ringnumber"?)`},
		{quorum("") + "quorm {\n}\n", "", `quorm { } is not known, and does nothing here (did you mean "quorum"?)`},
		{head + three, "frobnicate=1\n", `dlm.conf:1: frobnicate is not known, and does nothing here: correct it`},
		{head + three, "enable_fencin=0\n", `enable_fencin is not known, and does nothing here (did you mean "enable_fencing"?)`},
		{head + strings.Replace(three, "nodeid: 2", "nodeid: 2\nquorum_vote: 3", 1), "", `nodelist.node.quorum_vote is not known, and does nothing here (did you mean "quorum_votes"?)`},
	} {
		fs := []importer.File{{Name: "corosync.conf", Data: []byte(c.conf)}}
		if c.dlm != "" {
			fs = append(fs, importer.File{Name: "dlm.conf", Data: []byte(c.dlm)})
		}
		r, err := importer.Import(fs, options)
		if err != nil || !strings.Contains(strings.Join(r.Todo, "\n"), c.want) {
			t.Errorf("%s is not to be done (%v):\n%s", c.want, err, strings.Join(r.Todo, "\n"))
		}
	}
}

// Of several links the DLM's is decided on before there is a cluster.
func TestLinksAreDecidedOn(t *testing.T) {
	for conf, want := range map[string]bool{head + three: false, head + "nodelist {\nnode {\nring0_addr: 10.0.0.1\nring1_addr: 10.0.1.1\nname: a\nnodeid: 1\n}\n}\n": true} {
		r, err := importer.Import([]importer.File{{Name: "corosync.conf", Data: []byte(conf)}}, options)
		if got := strings.Contains(strings.Join(r.Todo, "\n"), `2 links: write dlm_network = "…"`); err != nil || got != want {
			t.Errorf("%v, %v:\n%s", got, err, strings.Join(r.Todo, "\n"))
		}
	}
}

// A nodeid that is there twice is told, and not what follows from it.
func TestTwoNodesOfOneID(t *testing.T) {
	conf := head + strings.Replace(three, "nodeid: 2", "nodeid: 1", 1)
	got := refused(t, options, conf, "device x fence_x\nconnect x node=1\nconnect x node=2\n")
	if !regexp.MustCompile(`^first:\d+: nodeid 1 is also that of node "a": every node needs its own$`).MatchString(got) {
		t.Error(got)
	}
}

// Without a word on what is secret, everything is.
func TestAllIsSecretByDefault(t *testing.T) {
	r, err := importer.Import([]importer.File{{Name: "c", Data: []byte(head + three)}, {Name: "d", Data: []byte(each("x", "fence_x", "colour=Xyzzy"))}}, importer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	hush(t, string(r.TOML))
}
