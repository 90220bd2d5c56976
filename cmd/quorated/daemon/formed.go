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
	text := cfg.Cluster + "\n# This node was in the cluster of that name: where its log is lost it forms no new one (quorate init).\n"
	if err := replaceDurably(formedPath(cfg), text); err != nil {
		return fmt.Errorf("an empty log will not be known as a lost one: %w", err)
	}
	return nil
}

// replaceDurably writes a file so that after a loss of power it is the old one or the new one.
func replaceDurably(path, text string) error {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err == nil {
		err = secret.SyncDir(filepath.Dir(path))
	}
	return err
}

// setAside keeps a log that is given up beside the new one, in the place of an
// earlier one.
func setAside(dir string) error {
	old := dir + ".given-up"
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	if err := os.Rename(dir, old); err != nil {
		return err
	}
	// What was agreed on is not the log's fault: the others are where that says.
	k, ok, err := readKept(old)
	if err != nil || !ok {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return keep(dir, k)
}
