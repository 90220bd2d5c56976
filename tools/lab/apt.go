package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const debianKeys = "/usr/share/keyrings/debian-archive-keyring.gpg"

// apt is a private package configuration for one suite of Debian, with lists of
// its own: the host's configuration, lists and packages stay as they are.
type apt struct {
	dir  string
	opts []string
	out  io.Writer
}

// newApt makes one in dir from the mirror that the host uses.
func newApt(ctx context.Context, dir, suite string, out io.Writer) (*apt, error) {
	host, err := hostSuite()
	if err != nil {
		return nil, err
	}
	targets, err := hostTargets(ctx)
	if err != nil {
		return nil, err
	}
	sources := suiteSources(targets, host, suite)
	if sources == "" {
		return nil, fmt.Errorf("the host's package sources name no Debian mirror for %s", host)
	}
	if exists(debianKeys) {
		sources = strings.ReplaceAll(sources, "deb ", "deb [signed-by="+debianKeys+"] ")
	}
	a := &apt{dir: dir, out: out, opts: []string{"-qq"}}
	for k, v := range map[string]string{
		"Dir::State": "state", "Dir::State::status": "status", "Dir::Cache": "cache",
		"Dir::Etc::SourceList": "sources.list", "Dir::Etc::SourceParts": "none",
		"Dir::Etc::Preferences": "none", "Dir::Etc::PreferencesParts": "none",
	} {
		a.opts = append(a.opts, "-o", k+"="+filepath.Join(dir, v))
	}
	// A mirror that stands still serves sid's index beyond its ten days; signed it is.
	a.opts = append(a.opts, "-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Check-Valid-Until=false")
	err = errors.Join(
		os.MkdirAll(filepath.Join(dir, "state/lists/partial"), 0o755),
		os.MkdirAll(filepath.Join(dir, "cache/archives/partial"), 0o755),
		os.WriteFile(filepath.Join(dir, "status"), nil, 0o644),
		os.WriteFile(filepath.Join(dir, "sources.list"), []byte(sources), 0o644))
	if err != nil {
		return nil, err
	}
	return a, tool(ctx, out, dir, "", "apt-get", append(a.opts, "update")...)
}

// suiteSources are one-line apt sources for any suite of Debian, given what the
// host's apt knows. A suite that the host has not is taken from the same mirror.
func suiteSources(targets, host, suite string) string {
	if own := sourcesOf(targets, suite); own != "" {
		return own
	}
	var b strings.Builder
	for line := range strings.Lines(targets) {
		f := strings.Fields(line) // codename deb URI release component
		if len(f) != 5 || f[4] != "main" {
			continue
		}
		switch {
		case f[0] == host:
			fmt.Fprintf(&b, "deb %s %s main\n", f[2], suite)
		case f[0] == host+"-security" && suite != "sid" && !strings.Contains(suite, "-"):
			fmt.Fprintf(&b, "deb %s %s-security main\n", f[2], suite)
		}
	}
	return b.String()
}

// parts are the packages that a kernel's package is made of, itself first. Newer
// ones keep image and modules apart.
func (a *apt) parts(ctx context.Context, pkg string) ([]string, error) {
	all := []string{pkg}
	for i := 0; i < len(all); i++ {
		c := exec.CommandContext(ctx, "apt-cache", append(a.opts[1:len(a.opts):len(a.opts)], "--no-all-versions", "show", all[i])...)
		b, err := c.Output()
		if err != nil {
			return nil, fmt.Errorf("apt-cache show %s: %w", all[i], err)
		}
		for _, p := range kernelParts(string(b)) {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	return all, nil
}

var kernelPart = regexp.MustCompile(`\blinux-(?:image|binary|modules)-[0-9][^\s,|(]*`)

// kernelParts picks the packages with kernels and modules from the Depends of
// what apt-cache show printed.
func kernelParts(show string) (names []string) {
	for line := range strings.Lines(show) {
		if d, ok := strings.CutPrefix(line, "Depends:"); ok {
			names = append(names, kernelPart.FindAllString(d, -1)...)
		}
	}
	return names
}

// unpack downloads packages and unpacks them below to, without installing them.
// It returns the packages' file names, which have their versions.
func (a *apt) unpack(ctx context.Context, to string, pkgs ...string) (debs []string, err error) {
	args := append(a.opts[:len(a.opts):len(a.opts)], "download")
	if err := tool(ctx, a.out, a.dir, "", "apt-get", append(args, pkgs...)...); err != nil {
		return nil, err
	}
	files, _ := filepath.Glob(filepath.Join(a.dir, "*.deb"))
	if len(files) != len(pkgs) {
		return nil, fmt.Errorf("apt-get download %s left %d files", strings.Join(pkgs, " "), len(files))
	}
	for _, f := range files {
		if err := tool(ctx, a.out, "", "", "dpkg", "-x", f, to); err != nil {
			return nil, err
		}
		if err := os.Remove(f); err != nil {
			return nil, err
		}
		debs = append(debs, filepath.Base(f))
	}
	return debs, nil
}
