package lab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// key changes with everything that an unpacked kernel is made from, but not with
// the version that the suite has today: what is in the cache stays, even when
// the suite moves on.
func (s kernelSpec) key() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q", []any{"1", s.suite, s.pkg, runtime.GOARCH})
	if !s.uml() {
		fmt.Fprintf(h, "%q", []any{notForVMs, bootModules})
	}
	return fmt.Sprintf("%x", h.Sum(nil))[:16]
}

// fetch puts the kernel into the cache.
func (s kernelSpec) fetch(ctx context.Context, cache string, out io.Writer) error {
	fmt.Fprintf(out, "lab: fetching %s: %s of Debian %s, 35 to 110 MB\n", s.name, s.pkg, s.suite)
	return whole(s.dir(cache), func(tmp string) error { return s.unpack(ctx, tmp, out) })
}

// whole has a folder of the cache made beside its place and moves it there when
// it is whole.
func whole(dir string, make func(tmp string) error) (err error) {
	tmp := dir + ".new"
	if err := removeTree(tmp); err != nil {
		return err
	}
	defer func() {
		if e := removeTree(tmp); e != nil {
			err = errors.Join(err, e)
		}
	}()
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	if err := make(tmp); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}

func (s kernelSpec) unpack(ctx context.Context, tmp string, out io.Writer) error {
	if err := aptLists(ctx, out, "linux-image-"+runtime.GOARCH); err != nil { // or apt tells no mirror
		return err
	}
	a, err := newApt(ctx, filepath.Join(tmp, "apt"), s.suite, out)
	if err != nil {
		return err
	}
	pkgs, err := s.packages(ctx, a)
	if err != nil {
		return err
	}
	debs, err := a.unpack(ctx, filepath.Join(tmp, "pkg"), pkgs...)
	if err != nil {
		return err
	}
	release, err := s.arrange(ctx, tmp, out)
	if err != nil {
		return err
	}
	err = errors.Join(
		os.RemoveAll(filepath.Join(tmp, "apt")), os.RemoveAll(filepath.Join(tmp, "pkg")),
		os.WriteFile(filepath.Join(tmp, "packages"), []byte(strings.Join(debs, "\n")+"\n"), 0o644),
		os.WriteFile(filepath.Join(tmp, "release"), []byte(release+"\n"), 0o644))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "lab: %s is Linux %s\n", s.name, release)
	return nil
}

// packages are what has to be unpacked. A program of another suite than the
// host's brings its C library.
func (s kernelSpec) packages(ctx context.Context, a *apt) ([]string, error) {
	if !s.uml() {
		return a.parts(ctx, s.pkg)
	}
	host, err := hostSuite()
	if err != nil || host == s.suite {
		return []string{s.pkg}, err
	}
	return []string{s.pkg, "libc6"}, nil
}

// arrange makes the cache's folder from the unpacked packages.
func (s kernelSpec) arrange(ctx context.Context, tmp string, out io.Writer) (release string, err error) {
	pkg := filepath.Join(tmp, "pkg")
	mods, err := oneOf(pkg, "usr/lib/uml/modules/*", "usr/lib/modules/*", "lib/modules/*")
	if err != nil {
		return "", err
	}
	release = filepath.Base(mods)
	if s.uml() {
		err = arrangeUML(pkg, tmp)
	} else {
		err = arrangeQEMU(ctx, pkg, tmp, mods, out)
	}
	if err != nil {
		return "", err
	}
	// depmod looks in lib/modules or in usr/lib/modules, as it was built.
	err = errors.Join(
		os.MkdirAll(filepath.Join(tmp, "lib/modules"), 0o755), os.Symlink(".", filepath.Join(tmp, "usr")),
		os.Rename(mods, filepath.Join(tmp, "lib/modules", release)))
	if err != nil {
		return "", err
	}
	if err := tool(ctx, out, "", "", "depmod", "-b", tmp, release); err != nil {
		return "", err
	}
	if s.uml() {
		return release, nil
	}
	return release, finishQEMU(ctx, tmp, release, out)
}

// oneOf finds the one file that a pattern below dir matches.
func oneOf(dir string, patterns ...string) (string, error) {
	for _, p := range patterns {
		if m, _ := filepath.Glob(filepath.Join(dir, p)); len(m) == 1 {
			return m[0], nil
		}
	}
	return "", fmt.Errorf("the package has not one %s", strings.Join(patterns, " or "))
}

// interpreter is where, from its own folder, a program finds the loader of the C
// library that came along. It must not be longer than what it replaces.
const interpreter = "libc/ld-linux-x86-64.so.2"

func arrangeUML(pkg, tmp string) error {
	program := filepath.Join(tmp, "linux.uml")
	if err := os.Rename(filepath.Join(pkg, "usr/bin/linux.uml"), program); err != nil {
		return err
	}
	const lib = "lib/x86_64-linux-gnu/"
	libc, err := oneOf(pkg, "usr/"+lib+"libc.so.6", lib+"libc.so.6")
	if err != nil {
		return nil // the host's will do
	}
	loader := filepath.Join(filepath.Dir(libc), filepath.Base(interpreter))
	return errors.Join(
		os.Mkdir(filepath.Join(tmp, "libc"), 0o755),
		os.Rename(libc, filepath.Join(tmp, "libc/libc.so.6")),
		os.Rename(loader, filepath.Join(tmp, interpreter)),
		setInterpreter(program, interpreter))
}

// setInterpreter makes a program ask for another loader. The program is not
// given to the loader instead, since its memory would be laid out differently.
func setInterpreter(program, path string) error {
	f, err := elf.Open(program)
	if err != nil {
		return err
	}
	defer f.Close()
	i := slices.IndexFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
	if i < 0 {
		return fmt.Errorf("%s has no loader to replace", program)
	}
	h := f.Progs[i].ProgHeader
	if uint64(len(path)) >= h.Filesz {
		return fmt.Errorf("%s has room for a loader's name of %d bytes, not %d", program, h.Filesz-1, len(path))
	}
	w, err := os.OpenFile(program, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	name := append([]byte(path), make([]byte, int(h.Filesz)-len(path))...)
	_, err = w.WriteAt(name, int64(h.Off))
	return errors.Join(err, w.Close())
}

// notForVMs are modules for devices that no virtual node has: most of the size.
var notForVMs = []string{
	"sound", "drivers/gpu", "drivers/media", "drivers/infiniband", "drivers/staging", "drivers/iio",
	"drivers/net/wireless", "drivers/net/ethernet", "drivers/usb", "drivers/hid", "drivers/input",
	"drivers/hwmon", "drivers/platform", "drivers/isdn", "drivers/comedi", "drivers/accel", "drivers/soundwire",
}

// bootModules are what an emulated node needs to get at its root file system.
// What a kernel has built in, or has not at all, is left out.
var bootModules = []string{"virtio_pci", "virtio_blk", "virtio_net", "crc32c_generic", "ext4", "overlay"}

func arrangeQEMU(ctx context.Context, pkg, tmp, mods string, out io.Writer) error {
	image, err := oneOf(pkg, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz")
	if err != nil {
		return err
	}
	errs := []error{os.Rename(image, filepath.Join(tmp, "vmlinuz"))}
	for _, d := range notForVMs {
		errs = append(errs, os.RemoveAll(filepath.Join(mods, "kernel", d)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var packed []string
	err = filepath.WalkDir(mods, func(p string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(p, ".ko.xz") {
			packed = append(packed, p)
		}
		return err
	})
	for some := range slices.Chunk(packed, 500) {
		if err == nil { // once here, not again at each boot of an emulated node
			err = tool(ctx, out, "", "", "xz", append([]string{"-d"}, some...)...)
		}
	}
	return err
}

// finishQEMU makes the first part of the initial file system, and an image of
// the modules.
func finishQEMU(ctx context.Context, tmp, release string, out io.Writer) error {
	mods := filepath.Join(tmp, "lib/modules", release)
	dep, err := os.ReadFile(filepath.Join(mods, "modules.dep"))
	if err != nil {
		return err
	}
	var cpio bytes.Buffer
	if err := writeBoot(&cpio, mods, bootFiles(dep)); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(tmp, "boot.cpio"), cpio.Bytes(), 0o644),
		diskOf(ctx, filepath.Join(tmp, "lib/modules"), filepath.Join(tmp, "modules.ext4"), out),
		os.RemoveAll(filepath.Join(tmp, "lib")), os.Remove(filepath.Join(tmp, "usr")))
}

// bootFiles are the files of bootModules in the order to load them, given
// modules.dep.
func bootFiles(dep []byte) (files []string) {
	for _, name := range bootModules {
		sc := bufio.NewScanner(bytes.NewReader(dep))
		for sc.Scan() {
			file, needs, _ := strings.Cut(sc.Text(), ":")
			if strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_") != name {
				continue
			}
			all := strings.Fields(needs)
			slices.Reverse(all) // the last one named needs none of the others
			for _, f := range append(all, file) {
				if !slices.Contains(files, f) {
					files = append(files, f)
				}
			}
		}
	}
	return files
}

// diskOf makes a read-only ext4 image of a folder.
func diskOf(ctx context.Context, dir, image string, out io.Writer) error {
	var size, files int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil {
			files++
			size += (st.Size() + 8191) &^ 4095 // and its share of directories and maps
		}
		return err
	})
	if err != nil {
		return err
	}
	tmp := image + ".new"
	os.Remove(tmp)
	err = tool(ctx, out, "", "", "mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0", "-b", "4096",
		"-N", fmt.Sprint(files+1000), "-d", dir, tmp, fmt.Sprintf("%dM", size>>20+64))
	if err != nil {
		return err
	}
	return os.Rename(tmp, image)
}
