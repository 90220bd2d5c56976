package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/membership/secret"
)

func (a *app) configWriteCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "write",
		Short: "Make the configuration file of this node what is in force",
		Long: `write replaces the configuration file of this node, that which its quorated was started
with (/etc/quorate/quorate.toml), by what is in force. What the node decides by itself
is taken from the file as it is, and so are the secrets of its fence devices; a secret
that is not there is named, and nothing is written. The file is replaced in one step,
with its owner and mode; that of before is kept beside it, with .old after its name.
Where the file says the same already it is left alone.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := a.writeConfig(c)
			if err != nil {
				return err
			}
			return a.answer(control.Response{Text: text})
		},
	}
}

// writeConfig makes the node's file what is in force, and says what it did.
func (a *app) writeConfig(c *cobra.Command) (string, error) {
	now, err := a.agreed(c, 0)
	if err != nil {
		return "", err
	}
	if now.Path == "" {
		return "", errors.New("the daemon does not say where its file is: use the quorate of the same version as quorated")
	}
	path := now.Path
	if target, err := filepath.EvalSymlinks(path); err == nil { // a link stays one
		path = target
	}
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return "", fmt.Errorf("nothing was written: %w", err)
	}
	defer unlock()
	text, unread := config.Read(now.Path)
	var file config.Config
	if unread == nil {
		file, unread = config.Parse(now.Path, []byte(text))
	}
	if unread != nil { // what the daemon works by is all that is known of this node's own
		own, err := a.call(c.Context(), control.Request{Command: "config-show", Own: true})
		if err != nil {
			return "", err
		}
		if file, err = config.ParseAgreed(own.Text); err != nil {
			return "", err
		}
		file.Path = now.Path
	}
	out, taken, err := config.Complete(now.Text, file)
	switch {
	case err != nil && unread != nil:
		return "", fmt.Errorf("nothing was written: %w; the file cannot be read: %w", err, unread)
	case err != nil:
		return "", fmt.Errorf("nothing was written: %w", err)
	case unread == nil && (out == text || config.Says(text, now.Text)):
		return fmt.Sprintf("%s is version %d already: nothing was written", now.Path, now.Config), nil
	}
	old, err := replaceFile(path, []byte(out))
	if err != nil {
		return "", fmt.Errorf("%s was not replaced: %w", now.Path, err)
	}
	said := fmt.Sprintf("%s is version %d now", now.Path, now.Config)
	if len(taken) > 0 {
		said += ", with this node's own " + strings.Join(taken, ", ")
	}
	if old != "" {
		said += "; the file of before is " + old
	}
	return said, nil
}

// lockDir lets one at a time read and replace a file in a directory: a second one would
// keep as the file of before what the first has written. A directory that is not there
// needs no lock.
func lockDir(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return func() { _ = d.Close() }, nil
	}
	_ = d.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("another `quorate config write` is at work in %s: try again when it is done", dir)
	}
	return nil, fmt.Errorf("lock %s: %w", dir, err)
}

// dropUnfinished removes what is left of a replacement that was killed: it may hold secrets.
func dropUnfinished(path string) {
	all, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*.new"))
	for _, name := range all {
		middle, ok := strings.CutPrefix(strings.TrimSuffix(filepath.Base(name), ".new"), filepath.Base(path)+".")
		if ok && middle != "" && strings.Trim(middle, "0123456789") == "" {
			_ = os.Remove(name)
		}
	}
}

// replaceFile puts other bytes in the place of a file in one step, or leaves it as it was.
// Owner and mode stay. It returns where the file of before is; empty: there was none.
func replaceFile(path string, data []byte) (old string, err error) {
	dropUnfinished(path)
	was, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	next, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(next.Name()) // it may hold secrets
		}
	}()
	err = likeFile(next, was)
	if err == nil {
		_, err = next.Write(data)
	}
	if err = errors.Join(err, next.Sync(), next.Close()); err != nil {
		return "", err
	}
	if was != nil {
		old = path + ".old"
		if err = os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err = os.Link(path, old); err != nil {
			return "", err
		}
	}
	if err = os.Rename(next.Name(), path); err != nil {
		return "", err
	}
	return old, secret.SyncDir(filepath.Dir(path))
}

// likeFile gives a new file the owner and mode of another one, or those of a file that
// was not there.
func likeFile(f *os.File, was os.FileInfo) error {
	if was == nil {
		return f.Chmod(0o644)
	}
	if !was.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	if st, ok := was.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	return f.Chmod(was.Mode().Perm())
}
