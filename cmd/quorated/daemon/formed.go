package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/membership/secret"
)

// formedName is a file beside the cluster's key. It says that this node was in a
// cluster, and so that an empty log is a lost one. It is not with the log, so
// that both are not lost together.
const formedName = "formed"

func formedPath(cfg config.Config) string {
	return filepath.Join(filepath.Dir(cfg.KeyFile), formedName)
}

// wasFormed says whether this node was in a cluster of that name.
func wasFormed(cfg config.Config) (bool, error) {
	b, err := os.ReadFile(formedPath(cfg))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	name, _, _ := bytes.Cut(b, []byte("\n"))
	return string(name) == cfg.Cluster, err
}

// noteFormed writes it down, once.
func noteFormed(cfg config.Config) error {
	if was, err := wasFormed(cfg); was || err != nil {
		return err
	}
	path := formedPath(cfg)
	tmp := path + ".new"
	text := cfg.Cluster + "\n# This node was in the cluster of that name: where its log is lost it forms no new one (quorate init).\n"
	err := writeDurably(tmp, text)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = secret.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("an empty log will not be known as a lost one: %w", err)
	}
	return nil
}

// writeDurably writes a file that a loss of power does not leave empty.
func writeDurably(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// setAside keeps a log that is given up beside the new one, in the place of an
// earlier one.
func setAside(dir string) error {
	old := dir + ".given-up"
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	return os.Rename(dir, old)
}
