package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A safety rule can be left out by a build with the tag alone, and such a build says so.
func TestPlantedBugs(t *testing.T) {
	for _, c := range []struct {
		tags string
		want bool
	}{{"", false}, {"planted", true}} {
		bin := filepath.Join(t.TempDir(), "quorated")
		if b, err := exec.Command("go", "build", "-tags="+c.tags, "-ldflags=-X main.plantedBug=skip-fence", "-o", bin, ".").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		out, err := exec.Command(bin, "-version").Output()
		if err != nil || strings.Contains(string(out), "skip-fence") != c.want {
			t.Errorf("tags %q: %q, %v", c.tags, out, err)
		}
	}
}
