package dist

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
)

// BuildDate is the date of the pages: SOURCE_DATE_EPOCH, or now.
func BuildDate() time.Time {
	if s, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		return time.Unix(s, 0).UTC()
	}
	return time.Now().UTC()
}

// WritePages writes quorated.8, with the program's flags, and quorate.toml.5 into a
// directory.
func WritePages(dir string, flags *flag.FlagSet, date time.Time) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{"quorated.8": daemonPage(flags, date), "quorate.toml.5": configPage(date)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// configPage is quorate.toml(5): the reference, word for word, so that it says what
// holds.
func configPage(date time.Time) string {
	return title("quorate.toml", 5, date) + roff(configText) + ".PP\n.EX\n" + escape(strings.ReplaceAll(Reference, docsAt, config.DocDir)) + ".EE\n" +
		roff("# SEE ALSO\nquorated(8), quorate(8); "+documents()+"\n")
}

// daemonPage is quorated(8).
func daemonPage(flags *flag.FlagSet, date time.Time) string {
	var b strings.Builder
	b.WriteString(title("quorated", 8, date) + roff(daemonText) + roff("# OPTIONS\n"))
	flags.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" {
			usage += " (" + f.DefValue + ")"
		}
		fmt.Fprintf(&b, ".TP\n\\fB%s\\fR \\fI%s\\fR\n%s\n", escape("-"+f.Name), escape(value), escape(usage))
	})
	return b.String() + roff(daemonEnd+documents()+"\n")
}

// docsAt is where the reference says that the documents are; `make install` puts the
// PREFIX there, as in the units.
const docsAt = "/usr/share/doc/quorate"

// documents names those that are installed.
func documents() string {
	return "operating.md, quorum.md, witness.md and import.md in " + config.DocDir
}

func title(name string, section int, date time.Time) string {
	return fmt.Sprintf(".TH \"%s\" \"%d\" \"%s\" \"quorate\" \"quorate\"\n", strings.ToUpper(name), section, date.Format("Jan 2006"))
}

var special = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)

// escape makes text that roff prints as it is.
func escape(text string) string {
	var b strings.Builder
	for l := range strings.Lines(special.Replace(text)) {
		if strings.HasPrefix(l, ".") {
			l = `\&` + l
		}
		b.WriteString(l)
	}
	return b.String()
}

// roff makes a page of text in which "# " begins a heading, "= " a term, and an
// empty line a paragraph.
func roff(text string) string {
	var b strings.Builder
	for l := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(l, "# "):
			b.WriteString(".SH " + escape(l[2:]))
		case strings.HasPrefix(l, "= "):
			b.WriteString(".TP\n" + escape(l[2:]))
		case l == "\n":
			b.WriteString(".PP\n")
		default:
			b.WriteString(escape(l))
		}
	}
	return b.String()
}

const configText = `# NAME
quorate.toml - the cluster, as every node must see it
# DESCRIPTION
quorated(8) reads /etc/quorate/quorate.toml. This is the reference that is installed
beside it as quorate.toml.example, with every key and its default.
`

const daemonText = `# NAME
quorated - cluster membership, quorum and fencing for the kernel's DLM
# SYNOPSIS
quorated [-config file] [-node name] [-socket socket] [-debug]

quorated -check | -version

quorated -witness [-state directory] [-listen address] [-name name]

quorated -witness token [-for duration] [-advertise host:port] | list | forget id
# DESCRIPTION
One quorated runs on each node, as root, started by systemd. Together they agree on
who is in the cluster, prove that a lost node is really off, and drive the DLM in
their kernels, so that GFS2 and everything else on the DLM runs on. Whom to agree
with, and how to cut nodes off, is in quorate.toml(5).

quorate(8) shows what it does and what it waits for, and steers it.

With -witness it is something else: a vote for other machines' clusters, without root,
kernel or configuration. token prints a line that is good for one cluster, once; quorate
witness add on a node takes it. list names the clusters that were enrolled, and forget drops one.

SIGTERM asks it to leave the cluster cleanly. While lockspaces are in use here that
is refused, and it stays: unmount first. By hand: quorate leave. systemctl stop is
always refused.
`

const daemonEnd = `# EXIT STATUS
= 0
after a clean leave; with -check: nothing is wrong
= 1
it could not go on; with -check: something is wrong
= 64
wrong usage
= 78
a configuration that cannot work; systemd does not start it again
# FILES
= /etc/quorate/quorate.toml
the configuration, quorate.toml(5)
= /etc/quorate/quorate.key
the cluster's secret, mode 0600, the same on every node; made by quorate keygen, changed by quorate key rotate
= /etc/quorate/formed
says that this node was in a cluster, so that an empty log is known as a lost one
= /var/lib/quorate
its log: this node's vote, and its copy of what was agreed
= /var/lib/quorate-witness
of a witness: its certificate, and for each cluster what it said of itself, and its log
= /run/quorate/quorated.sock
the control socket
# SEE ALSO
quorate(8), quorate.toml(5); `
