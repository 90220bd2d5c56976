package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/cmd/quorated/config"
)

// A node knows the cluster that it was in, by its name, and says so where that
// cannot be written down.
func TestWasFormed(t *testing.T) {
	cfg := config.Config{KeyFile: filepath.Join(t.TempDir(), "secret")}
	cfg.Cluster = "tank"
	knows := func(cluster string, want bool) {
		t.Helper()
		other := cfg
		other.Cluster = cluster
		if was, err := wasFormed(other); was != want || err != nil {
			t.Fatalf("was in %s: %v, %v", cluster, was, err)
		}
	}
	knows("tank", false)
	for range 2 {
		if err := noteFormed(cfg); err != nil {
			t.Fatal(err)
		}
		knows("tank", true)
		knows("silo", false)
	}
	if files, err := os.ReadDir(filepath.Dir(cfg.KeyFile)); len(files) != 1 || err != nil {
		t.Fatalf("%v, %v", files, err)
	}
	cfg.KeyFile = filepath.Join(t.TempDir(), "gone", "secret")
	if err := noteFormed(cfg); err == nil || !strings.Contains(err.Error(), "lost one") {
		t.Fatalf("%v", err)
	}
}
