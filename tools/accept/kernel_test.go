package accept

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/quorate/quorate/tools/lab"
)

// complaint is what the contracts must not make a kernel say.
var complaint = regexp.MustCompile(`WARNING:|\bBUG\b|\bOops\b|blocked for more than`)

// TestKernelContracts runs the contract suites of configfs and of the DLM
// driver, which pass on their fakes, inside a node on the real kernel: on the
// one that QUORATE_LAB_KERNEL names, such as qemu-7.3.
func TestKernelContracts(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{}
	for name, pkg := range map[string]string{"configfs.test": "configfs", "dlm.test": "kbridge/dlm", "liveness.test": "ebpf/liveness"} {
		out := filepath.Join(dir, name)
		if os.Getenv(lab.EnvGate) == "1" {
			cmd := exec.Command("go", "test", "-c", "-o", out, "github.com/quorate/quorate/"+pkg)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if b, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
			files["/usr/local/bin/"+name] = out
		}
	}
	l := lab.ForTest(t, lab.Config{Nodes: 1, Files: files})
	n := l.Node(1)
	t.Logf("%s: Linux %s", n.Kernel(), n.KernelVersion())
	if _, err := n.Run(t.Context(), "mkfs.gfs2 -O -q -p lock_dlm -t lab:gfs -j 1 -J 32 /dev/ubda"); err != nil {
		t.Fatal(err)
	}
	// Halt leaves a stopped lockspace in the kernel, so it comes last.
	for _, cmd := range []string{"configfs.test -test.run Kernel", "dlm.test -test.run Kernel -test.skip KernelZHalt", "dlm.test -test.run KernelZHalt",
		"liveness.test -test.skip Story"} {
		r, err := n.Exec(t.Context(), "cd /tmp && CI=true QUORATE_KERNEL=1 QUORATE_GFS2=/dev/ubda /usr/local/bin/"+cmd+" -test.v")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s:\n%s", cmd, r.Stdout)
		if r.Code != 0 || !strings.Contains(r.Stdout, "--- PASS") {
			t.Errorf("%s: exit %d\n%s", cmd, r.Code, r.Stderr)
		}
	}
	out, err := n.Run(t.Context(), "dmesg")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(out) {
		// From 6.12 on the end of a connection that never was warns; see docs/design.md.
		if complaint.MatchString(l) && !strings.Contains(l, "dlm_lowcomms_close") {
			t.Errorf("the kernel complains: %s", l)
		}
	}
}
