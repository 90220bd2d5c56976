package lab

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func names(specs []kernelSpec) (out []string) {
	for _, s := range specs {
		out = append(out, s.name)
	}
	return out
}

func TestKernelsOf(t *testing.T) {
	for _, c := range []struct {
		env   string
		given []string
		nodes int
		want  string
		err   string
	}{
		{"", nil, 3, "uml-7.2 uml-7.2 uml-7.2", ""},
		{"qemu-7.3", nil, 2, "qemu-7.3 qemu-7.3", ""},
		{"qemu-7.3,uml-7.2", nil, 1, "qemu-7.3", ""}, // one variable for labs of all sizes
		{"qemu-7.3", []string{"uml-6.12"}, 1, "uml-6.12", ""},
		{"", []string{"uml-6.12", "qemu-6.1"}, 3, "uml-6.12 qemu-6.1 qemu-6.1", ""},
		{"", []string{"uml-6.12", "qemu-6.1"}, 1, "", "2 kernels for 1 nodes"},
		{"", []string{"uml"}, 1, "", "one of uml-6.1"},
		{"linux", nil, 1, "", `no kernel "linux"`},
	} {
		t.Setenv(EnvKernel, c.env)
		got, err := kernelsOf(c.given, c.nodes)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q %q: %v", c.env, c.given, err)
		}
		if err == nil && strings.Join(names(got), " ") != c.want {
			t.Errorf("%q %q: %q, want %s", c.env, c.given, names(got), c.want)
		}
	}
}

func TestDistinctKernels(t *testing.T) {
	all, err := kernelsOf([]string{"uml-6.1", "qemu-6.1", "uml-6.1"}, 4)
	if err != nil || !slices.Equal(names(distinct(all)), []string{"uml-6.1", "qemu-6.1"}) {
		t.Errorf("%q, %v", names(distinct(all)), err)
	}
	keys := map[string]bool{}
	for _, s := range kernelSpecs {
		keys[s.key()] = true
	}
	if len(keys) != len(kernelSpecs) {
		t.Errorf("%d keys for %d kernels", len(keys), len(kernelSpecs))
	}
}

func TestSuiteSources(t *testing.T) {
	const targets = "bookworm deb http://m/debian/ bookworm main\nbookworm deb http://m/debian/ bookworm contrib\n" +
		"bookworm-updates deb http://m/debian/ bookworm-updates main\nbookworm-security deb http://s/ bookworm-security main\n"
	for suite, want := range map[string]string{
		"trixie":           "deb http://m/debian/ trixie main\ndeb http://s/ trixie-security main\n",
		"trixie-backports": "deb http://m/debian/ trixie-backports main\n",
		"sid":              "deb http://m/debian/ sid main\n",
	} {
		if got := suiteSources(targets, "bookworm", suite); got != want {
			t.Errorf("%s: %q", suite, got)
		}
	}
	if got := suiteSources(targets, "bookworm", "bookworm"); !strings.Contains(got, "contrib") || strings.Count(got, "\n") != 4 {
		t.Errorf("the host's own suite: %q", got)
	}
	if got := suiteSources("other deb http://m/ other main\n", "bookworm", "sid"); got != "" {
		t.Errorf("no mirror: %q", got)
	}
}

func TestKernelParts(t *testing.T) {
	for show, want := range map[string]string{
		"Package: linux-image-amd64\nDepends: linux-image-6.12.1+deb13-amd64 (= 6.12.1-1)\nSize: 1\n": "linux-image-6.12.1+deb13-amd64",
		"Depends: linux-base-7-amd64 (= 1), linux-image-7.3.4-amd64 (= 7)\n":                          "linux-image-7.3.4-amd64",
		"Depends: dracut | x, linux-binary-7.3-amd64 (= 7), linux-modules-7.3-amd64 (= 7)\n":          "linux-binary-7.3-amd64 linux-modules-7.3-amd64",
		"Depends: kmod, linux-initramfs-tool\nRecommends: linux-image-1\n":                            "",
	} {
		if got := strings.Join(kernelParts(show), " "); got != want {
			t.Errorf("%q: %q", show, got)
		}
	}
}

// elfWith is the smallest program that names a loader.
func elfWith(loader string) []byte {
	var b bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	put(h)
	put(elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 120, Filesz: uint64(len(loader) + 1)})
	b.WriteString(loader + "\x00end")
	return b.Bytes()
}

func TestSetInterpreter(t *testing.T) {
	name := filepath.Join(t.TempDir(), "program")
	const old = "/lib64/ld-linux-x86-64.so.2"
	if err := os.WriteFile(name, elfWith(old), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := setInterpreter(name, interpreter); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil || len(b) != len(elfWith(old)) || !bytes.HasSuffix(b, []byte(interpreter+"\x00\x00\x00end")) {
		t.Errorf("%q, %v", b[120:], err)
	}
	if err := setInterpreter(name, old+"/longer"); err == nil {
		t.Error("a name that is too long passes")
	}
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := setInterpreter(name, "x"); err == nil {
		t.Error("a script has a loader")
	}
}

func TestBootFiles(t *testing.T) {
	dep := "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko\nkernel/lib/crc16.ko:\nkernel/fs/jbd2/jbd2.ko:\n" +
		"kernel/drivers/net/virtio_net.ko: kernel/net/core/failover.ko\nkernel/fs/overlayfs/overlay.ko:\nkernel/fs/dlm/dlm.ko:\n" +
		"kernel/drivers/block/virtio_blk.ko: kernel/lib/crc16.ko\n"
	want := "kernel/lib/crc16.ko kernel/drivers/block/virtio_blk.ko kernel/net/core/failover.ko kernel/drivers/net/virtio_net.ko " +
		"kernel/fs/jbd2/jbd2.ko kernel/fs/ext4/ext4.ko kernel/fs/overlayfs/overlay.ko"
	if got := strings.Join(bootFiles([]byte(dep)), " "); got != want {
		t.Errorf("%s", got)
	}
}

// unpackCpio reads what cpio wrote, several archives after another.
func unpackCpio(t *testing.T, b []byte) map[string]string {
	t.Helper()
	files := map[string]string{}
	for len(b) > 0 {
		if len(b) < 110 || string(b[:6]) != "070701" {
			t.Fatalf("no header: %.20q", b)
		}
		field := func(i int) int {
			n, err := strconv.ParseUint(string(b[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		up := func(n int) int { return (n + 3) &^ 3 }
		size, nameLen := field(6), field(11)
		name, at := string(b[110:110+nameLen-1]), up(110+nameLen)
		if name != "TRAILER!!!" {
			files[name] = fmt.Sprintf("%o %d:%d %s", field(1), field(9), field(10), b[at:at+size])
		}
		b = b[up(at+size):]
	}
	return files
}

func TestInitramfs(t *testing.T) {
	mods, share, boot := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "boot")
	for name, text := range map[string]string{mods + "/a.ko": "A", mods + "/bb.ko": "four", share + "/labnode": "program", share + "/files.json": "[]"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(share+"/proc", 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := writeBoot(&b, mods, []string{"bb.ko", "a.ko"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(boot, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "initrd")
	if err := initramfs(to, boot, share); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	got := unpackCpio(t, whole)
	for name, want := range map[string]string{
		"proc": "40755 0:0 ", "dev/console": "20600 5:1 ", "modules/bb.ko": "100644 0:0 four", "modules/a.ko": "100644 0:0 A",
		"modules/order": "100644 0:0 bb.ko\na.ko\n", "labnode": "100755 0:0 program", "files.json": "100755 0:0 []",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	if err := writeBoot(&b, mods, []string{"none.ko"}); err == nil {
		t.Error("a module that is not there was packed")
	}
	if err := initramfs(to, boot+"x", share); err == nil {
		t.Error("no boot part, and no error")
	}
}

func TestMemNeeded(t *testing.T) {
	for _, c := range []struct {
		kernels string
		mem     int
		want    int
	}{{"uml-6.1", 0, 600 + 3*400}, {"qemu-6.12", 0, 600 + 3*1050}, {"uml-6.1,qemu-6.1", 0, 600 + 400 + 2*1050}, {"qemu-6.1", 500, 600 + 3*650}} {
		cfg := Config{Kernels: strings.Split(c.kernels, ","), Mem: c.mem}
		if err := cfg.fill(); err != nil || memNeeded(&cfg) != c.want {
			t.Errorf("%s: %d, %v", c.kernels, memNeeded(&cfg), err)
		}
	}
}

// TestPrograms says what a machine with an empty cache needs.
func TestPrograms(t *testing.T) {
	for kernels, want := range map[string]string{
		"uml-6.1":           "iproute2 nftables e2fsprogs mmdebstrap kmod dpkg",
		"uml-6.1,qemu-6.12": "iproute2 nftables e2fsprogs mmdebstrap qemu-system-x86 kmod dpkg kmod dpkg xz-utils",
	} {
		specs, err := kernelsOf(strings.Split(kernels, ","), 2)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		w := inEmpty(t, specs)
		for _, p := range w.programs() {
			got = append(got, p.pkg)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q", kernels, got)
		}
		if w.there() != nil {
			t.Errorf("%s: an empty cache has everything", kernels)
		}
	}
}

func inEmpty(t *testing.T, specs []kernelSpec) want {
	return want{cache: t.TempDir(), root: recipe{suite: "s"}, kernels: distinct(specs)}
}

// TestThere finds what is in a cache.
func TestThere(t *testing.T) {
	specs, err := kernelsOf([]string{"uml-6.1", "qemu-6.1"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	w := inEmpty(t, specs)
	img := w.root.image(w.cache)
	if err := os.MkdirAll(img.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		dir := s.dir(w.cache)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "release"), []byte("6.1.9\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if w.there() != nil {
		t.Error("the root file system has no disk, but everything is there")
	}
	if err := os.WriteFile(img.Disk, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	got := w.there()
	if got == nil || len(got.Kernels) != 2 || got.Kernels["qemu-6.1"].Release != "6.1.9" {
		t.Fatalf("%+v", got)
	}
	bs := backends(got, append(specs, specs[0]))
	if bs[0] != bs[2] || bs[0] == bs[1] || bs[1].kernel().Name != "qemu-6.1" {
		t.Errorf("%v", bs)
	}
	if p := bs[0].kernel().program(); !strings.HasSuffix(p, "/linux.uml") {
		t.Error(p)
	}
}

// TestCommands pins what decides about safety and coherence on the command lines.
func TestCommands(t *testing.T) {
	l := &Lab{dir: "/lab", cfg: Config{Nodes: 2, Links: 2, Modules: []string{"dlm", "gfs2"}, Append: []string{"word"}}}
	k := &Kernel{"qemu-6.12", "6.12.1", "/k", kernelSpecs[4]}
	n := &Node{lab: l, id: 2, back: &qemu{k, "/root.ext4"}}
	got := strings.Join(n.back.command(n, "once").Args, " ")
	for _, want := range []string{
		"-accel tcg,thread=single", "-m 900", "-no-reboot", "append=on,path=/lab/node2.log", "-qmp unix:/lab/node2.monitor,server=on,wait=off",
		"if=none,format=raw,cache=writeback,aio=threads,file.locking=off,id=shared,file=/lab/shared.img -device",
		"id=root,file=/root.ext4,readonly=on", "id=modules,file=/k/modules.ext4,readonly=on",
		"ifname=n2l0,script=no,downscript=no,vhost=off -device virtio-net-pci,netdev=n0,mac=52:54:00:71:00:02",
		"ifname=n2m,", "ifname=n2l1,", "rdinit=/labnode", "word lab.root=root lab.trees=modules lab.nonce=once lab.node=2 lab.nodes=2 lab.links=2 lab.modules=dlm,gfs2",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	n.back = &uml{&Kernel{"uml-6.1", "6.1.1", "/k", kernelSpecs[0]}, "/root"}
	c := n.back.command(n, "once")
	got = strings.Join(c.Args, " ")
	for _, want := range []string{"/k/linux.uml mem=384M umid=node2", "ubd0c=/lab/shared.img ubd1=/lab/node2.img", "vec2:transport=tap,ifname=n2l1", "lab.root=/root lab.trees=/k/lib/modules"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if c.Dir != "/k" {
		t.Errorf("runs in %s", c.Dir)
	}
	for i, want := range []bool{false, false, true} { // a kernel before 6.16 would give the word to init
		n.back = &uml{&Kernel{kernelSpecs[i].name, "", "/k", kernelSpecs[i]}, "/root"}
		if got := slices.Contains(n.back.command(n, "once").Args, seccompArg); got != want {
			t.Errorf("%s: %s is %v", kernelSpecs[i].name, seccompArg, got)
		}
	}
}

func TestSetKernel(t *testing.T) {
	l := &Lab{cfg: Config{Nodes: 2, Links: 1}}
	for _, s := range kernelSpecs[:2] {
		l.backs = append(l.backs, &uml{&Kernel{s.name, s.name, "/k/" + s.name, s}, "/root"})
	}
	n := &Node{lab: l, id: 1, back: l.backs[0]}
	if err := n.SetKernel("uml-6.12"); err != nil || n.Kernel() != "uml-6.12" {
		t.Errorf("%s, %v", n.Kernel(), err)
	}
	if p := n.back.command(n, "once").Path; p != "/k/uml-6.12/linux.uml" {
		t.Errorf("boots %s", p)
	}
	if err := n.SetKernel("uml-7.2"); err == nil || n.Kernel() != "uml-6.12" {
		t.Errorf("a kernel that the lab has not: %s, %v", n.Kernel(), err)
	}
	n.run = &boot{}
	if err := n.SetKernel("uml-6.1"); !errors.Is(err, ErrRunning) || n.Kernel() != "uml-6.12" {
		t.Errorf("a running node: %s, %v", n.Kernel(), err)
	}
}
