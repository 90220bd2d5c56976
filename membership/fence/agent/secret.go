package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/quorate/quorate/membership"
)

// MaxSecret is the largest file that a secret is read from, in bytes.
const MaxSecret = 4096

const fileSuffix = "_file"

// ErrSecret says that the file of a secret option cannot be used.
var ErrSecret = errors.New("the secret cannot be read")

// SecretFile says that the option names a file that has the value of another one,
// which is secret: password_file has password.
func SecretFile(key string) (option string, ok bool) {
	option, ok = strings.CutSuffix(key, fileSuffix)
	return option, ok && SecretOption(option)
}

// options are what the device's agent is given, with the secrets that are in files
// read now: they may have been changed since the last time. It gives up when ctx
// ends, since a file may be on a server that does not answer.
func options(ctx context.Context, d *membership.Device) (map[string]string, error) {
	var files []string
	for _, k := range slices.Sorted(maps.Keys(d.Options)) {
		if _, ok := SecretFile(k); ok {
			files = append(files, k)
		}
	}
	if len(files) == 0 {
		return d.Options, nil
	}
	type answer struct {
		options map[string]string
		err     error
	}
	done := make(chan answer, 1)
	go func() {
		o, err := withSecrets(d.Options, files)
		done <- answer{o, err}
	}()
	select {
	case a := <-done:
		return a.options, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func withSecrets(options map[string]string, files []string) (map[string]string, error) {
	out := maps.Clone(options)
	for _, k := range files {
		value, err := readSecret(options[k])
		if err != nil {
			return nil, fmt.Errorf("%w: option %s: %w", ErrSecret, k, err)
		}
		option, _ := SecretFile(k)
		out[option] = value
		delete(out, k)
	}
	return out, nil
}

// readSecret reads a file that is root's, or of who runs this, and nobody else's
// to read or change. Its errors name the file and never what is in it.
func readSecret(path string) (string, error) {
	// O_NONBLOCK: opening a fifo must not wait for somebody to write to it.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("%s: %w: put the secret there, mode 0600, on every node", path, errors.Unwrap(err))
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, errors.Unwrap(err))
	}
	if err := private(info); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxSecret+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, errors.Unwrap(err))
	}
	value, err := parseSecret(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return value, nil
}

func private(info os.FileInfo) error {
	owner := -1
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		owner = int(st.Uid)
	}
	switch {
	case !info.Mode().IsRegular():
		return errors.New("it is not a regular file: write the path of a file with the secret in it")
	case owner != 0 && owner != os.Geteuid():
		return fmt.Errorf("it belongs to uid %d: chown root it", owner)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("others may use it (mode %04o): chmod 0600 it", info.Mode().Perm())
	}
	return nil
}

// parseSecret takes the one line of a secret file, without its end.
func parseSecret(text []byte) (string, error) {
	if len(text) > MaxSecret {
		return "", fmt.Errorf("it is larger than %d bytes: is this the right file?", MaxSecret)
	}
	line := bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	switch {
	case len(line) == 0:
		return "", errors.New("it is empty: write the secret into it, on one line")
	case bytes.ContainsAny(line, "\n\r\x00"):
		return "", errors.New("it has more than one line, and agents read one option a line: leave nothing but the secret in it")
	}
	return string(line), nil
}
