package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/config/importer"
	"github.com/quorate/quorate/membership"
)

// resolveFor is how long all names of a file may take to resolve.
const resolveFor = 30 * time.Second

func (a *app) configCmd() *cobra.Command {
	return group("config", "Show and change what the members have agreed on, and make quorate.toml from the files of corosync, dlm_controld or cman", "",
		append(a.configCmds(), a.configImportCmd())...)
}

func (a *app) configImportCmd() *cobra.Command {
	var file string
	var resolve bool
	c := &cobra.Command{
		Use:   "import COROSYNC.CONF [DLM.CONF] | CLUSTER.CONF",
		Short: "Turn corosync.conf and dlm.conf, or cman's cluster.conf, into a quorate.toml",
		Long: `import prints a quorate.toml that says what corosync.conf and dlm_controld's
dlm.conf say, or cman's cluster.conf. Its comments say from where each line comes,
what is left for you to do, and what was not carried over and why. It asks no
daemon and changes nothing; what it does not understand it refuses, with the line.

Passwords of fence devices are not in the output: for each, it names a file to
put the password into, and the line that has it. Host names in the place of
addresses are refused, since quorate takes numbers only; --resolve has this
machine look them up. A key that it does not know is listed among what is left for you
to do: it may be a slip that corosync passed over, too.

  quorate config import /etc/corosync/corosync.conf /etc/dlm/dlm.conf
  quorate config import --resolve -f quorate.toml /etc/cluster/cluster.conf`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			opt := importer.Options{Secret: config.SecretOption, Suggest: config.Suggest}
			if resolve {
				ctx, cancel := context.WithTimeout(c.Context(), resolveFor)
				defer cancel()
				opt.Resolve = func(name string) ([]netip.Addr, error) { return lookup(ctx, name) }
			}
			return a.importConfig(args, opt, file)
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "the file to make, which must not be there yet; without it the text is printed")
	c.Flags().BoolVar(&resolve, "resolve", false, "look host names up on this machine")
	return c
}

// importConfig reads the files, and writes what comes of them. What quorated would
// not take is said, and is an error all the same: the rest is work that is done.
func (a *app) importConfig(names []string, opt importer.Options, file string) error {
	var files []importer.File
	for _, name := range names {
		data, err := readForeign(name)
		if err != nil {
			return err
		}
		files = append(files, importer.File{Name: name, Data: data})
	}
	r, err := importer.Import(files, opt)
	if err != nil {
		return err
	}
	if file == "" || file == "-" {
		_, err = a.out.Write(r.TOML)
	} else {
		err = writeNew(file, r.TOML)
	}
	if err != nil {
		return err
	}
	if file == "" || file == "-" {
		file = "quorate.toml"
	}
	if _, err := config.Parse(file, r.TOML); err != nil {
		return fmt.Errorf("quorated does not take what came of it as it is; correct these lines:\n%w", err)
	}
	_, err = fmt.Fprintf(a.err, "%s left to do, listed at the top of the file\n", membership.Count(len(r.Todo), "thing"))
	return err
}

// readForeign reads a file of at most importer.MaxSize bytes; of a larger one it
// reads enough to be refused.
func readForeign(name string) ([]byte, error) {
	// O_NONBLOCK: a fifo must not hang the command.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	return io.ReadAll(io.LimitReader(f, importer.MaxSize+1))
}

// writeNew makes a file that was not there.
func writeNew(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already, and is not replaced: move it away first, or name another with -f", name)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(name) // half a file would be taken for a whole one
	}
	return err
}

// lookup resolves one name as every program on this machine does.
func lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) {
		return nil, errors.New(dns.Err)
	}
	return all, err
}
