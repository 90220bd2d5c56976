package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/membership/cluster"
)

// keptName is a file with the log: the newest configuration that was agreed on and
// that this node works by. The next start begins with it. An operator who moves the
// log away, to begin anew with another file, moves it with that.
const keptName = "agreed.toml"

// kept is what that file has.
type kept struct {
	version uint64
	cluster string // the cluster's random id
	text    string
}

var errKept = errors.New("it was not written by quorated, or not to its end")

var keptHead = regexp.MustCompile(`^# Version ([1-9][0-9]{0,18}) of the configuration that cluster ([^\s]{1,128}) agreed on \(([0-9a-f]{32})\)\. See: quorate config --help\n`)

func (k kept) String() string {
	return fmt.Sprintf("# Version %d of the configuration that cluster %s agreed on (%s). See: quorate config --help\n%s", k.version, k.cluster, cluster.ConfigDigest(k.text), k.text)
}

func parseKept(b []byte) (kept, error) {
	m := keptHead.FindSubmatch(b)
	if m == nil {
		return kept{}, errKept
	}
	v, err := strconv.ParseUint(string(m[1]), 10, 64)
	k := kept{version: v, cluster: string(m[2]), text: string(b[len(m[0]):])}
	if err != nil || cluster.ConfigDigest(k.text) != string(m[3]) {
		return kept{}, errKept
	}
	return k, nil
}

// readKept reads it; there is none before the cluster was formed.
func readKept(dir string) (k kept, ok bool, err error) {
	path := filepath.Join(dir, keptName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return kept{}, false, nil
	}
	if err == nil {
		k, err = parseKept(b)
	}
	if err != nil {
		return kept{}, false, &config.OpError{Op: "read the agreed configuration", Path: path, Err: err}
	}
	return k, true, nil
}

// keep writes it.
func keep(dir string, k kept) error {
	path := filepath.Join(dir, keptName)
	if err := replaceDurably(path, k.String()); err != nil {
		return &config.OpError{Op: "keep the agreed configuration", Path: path, Err: err}
	}
	return nil
}
