package lab

import (
	"crypto/sha256"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/tools/lab/fencedev"
)

// testWritesStop fences a node in the middle of its writes, and looks at the disk
// from the moment when the fence device has answered.
func testWritesStop(t *testing.T, l *Lab) {
	victim, other := l.Node(3), l.Node(2)
	_, err := victim.Daemon(t.Context(), "/tmp/w", "python3", "-c", "import os\n"+
		"fd=os.open('/dev/ubda',os.O_RDWR|os.O_SYNC)\ni=0\n"+
		"while 1:\n i+=1\n os.pwrite(fd,(b'%015d\\n'%i)*256,4096*(i%64))\n os.fsync(fd)\n")
	if err != nil {
		t.Fatal(err)
	}
	before := waitChange(t, l, [32]byte{})
	waitChange(t, l, before)
	mustRun(t, other, "printf 'action=off\\nip=10.78.0.1\\nplug=3\\n' | fence_lab")
	first := diskSum(t, l)
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if diskSum(t, l) != first {
			t.Fatal("the disk changed after Off was answered")
		}
	}
	if err := victim.WaitGone(t.Context()); err != nil {
		t.Fatal(err)
	}
	d, _ := victim.LastDeath()
	t.Logf("frozen after %v, gone after %v, had written %+v", d.Frozen.Sub(d.Asked), d.Gone.Sub(d.Asked), d.AtFreeze)
	if d.AtKill.More(d.AtFreeze) || d.AtFreeze.Calls == 0 {
		t.Errorf("written when frozen %+v, when killed %+v", d.AtFreeze, d.AtKill)
	}
	log := l.PowerLog()
	if r := log[len(log)-1]; r.Plug != 3 || r.Action != fencedev.Off || r.Err != "" || r.Done.Before(d.Frozen) {
		t.Errorf("power log %+v", r)
	}
	begin := time.Now()
	if _, err := victim.Kill(t.Context()); err != nil || time.Since(begin) > 200*time.Millisecond {
		t.Errorf("killing the dead took %v: %v", time.Since(begin), err)
	}
}

func diskSum(t *testing.T, l *Lab) (sum [32]byte) {
	t.Helper()
	f, err := os.Open(l.SharedDisk())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyN(h, f, 64*4096); err != nil {
		t.Fatal(err)
	}
	h.Sum(sum[:0])
	return sum
}

func waitChange(t *testing.T, l *Lab, from [32]byte) [32]byte {
	t.Helper()
	if from == [32]byte{} {
		from = diskSum(t, l)
	}
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s := diskSum(t, l); s != from {
			return s
		}
	}
	t.Fatal("nobody writes to the shared disk")
	return from
}

func testRedfish(t *testing.T, l *Lab) {
	agent := func(action string) int {
		t.Helper()
		begin := time.Now()
		in := "action=" + action + "\nip=10.78.0.1\nusername=lab\npassword=lab\nssl_insecure=1\nsystems_uri=/redfish/v1/Systems/3\npower_timeout=20\n"
		r, err := l.Node(1).ExecInput(t.Context(), strings.NewReader(in), "fence_redfish")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("fence_redfish %s: %d after %v %s", action, r.Code, time.Since(begin), r.Stderr)
		return r.Code
	}
	if c := agent("status"); c != 0 {
		t.Errorf("status of a running node: %d", c)
	}
	if c := agent("off"); c != 0 || l.Node(3).Powered() {
		t.Errorf("off: %d", c)
	}
	if c := agent("status"); c != 2 {
		t.Errorf("status of a dead node: %d", c)
	}
	if c := agent("on"); c != 0 {
		t.Errorf("on: %d", c)
	}
	if err := l.Node(3).WaitUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func testFenceLab(t *testing.T, l *Lab) {
	agent := func(action string) (int, time.Duration) {
		t.Helper()
		begin := time.Now()
		in := "action=" + action + "\nip=10.78.0.1\nplug=3\npower_timeout=6\n"
		r, err := l.Node(1).ExecInput(t.Context(), strings.NewReader(in), "exec fence_lab")
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(begin)
		t.Logf("fence_lab %s: %d after %v %s", action, r.Code, took, r.Stderr)
		return r.Code, took
	}
	for _, m := range []fencedev.Mode{fencedev.Fail, fencedev.Hang} {
		l.Misbehave(3, fencedev.Fault{Mode: m})
		if c, _ := agent("off"); c != 1 || !l.Node(3).Powered() {
			t.Errorf("%v: off gave %d", m, c)
		}
	}
	l.Misbehave(3, fencedev.Fault{Mode: fencedev.Lie})
	if c, _ := agent("off"); c != 0 || !l.Node(3).Powered() {
		t.Errorf("lie: off gave %d", c)
	}
	if c, _ := agent("status"); c != 2 {
		t.Errorf("lie: status gave %d", c)
	}
	l.Misbehave(3, fencedev.Fault{Mode: fencedev.Slow, Delay: time.Second})
	if c, took := agent("off"); c != 0 || took < time.Second || l.Node(3).Powered() {
		t.Errorf("slow: off gave %d after %v", c, took)
	}
	l.Misbehave(3, fencedev.Fault{})
	if c, _ := agent("off"); c != 0 {
		t.Errorf("off again: %d", c)
	}
	if c, _ := agent("status"); c != 2 {
		t.Errorf("status: %d", c)
	}
	if c, _ := agent("on"); c != 0 || !l.Node(3).Powered() {
		t.Errorf("on: %d", c)
	}
	if err := l.Node(3).WaitUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c, _ := agent("status"); c != 0 {
		t.Errorf("status: %d", c)
	}
	for _, a := range []string{"monitor", "list", "metadata"} {
		if c, _ := agent(a); c != 0 {
			t.Errorf("%s: %d", a, c)
		}
	}
}
