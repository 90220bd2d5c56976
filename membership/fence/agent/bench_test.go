package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/membership"
)

// The agents of BenchmarkFence do nothing but what every agent does first.
const (
	staticAgent = `package main
import ("bufio"; "os")
func main() {
	code := 0
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		if s.Text() == "action=status" { code = 2 }
	}
	os.Exit(code)
}
`
	pythonAgent = `#!/usr/bin/python3
import sys
sys.exit(2 if "action=status\n" in sys.stdin.readlines() else 0)
`
	// What fence-agents' library imports before it reads.
	libraryAgent = `#!/usr/bin/python3
import sys, getopt, time, os, uuid, subprocess, threading, shlex, logging, re, syslog, string, json, socket, ssl, urllib.request
sys.exit(2 if "action=status\n" in sys.stdin.readlines() else 0)
`
)

// BenchmarkFence gives the median of a whole Fence, off and status.
func BenchmarkFence(b *testing.B) {
	dir := b.TempDir()
	for name, text := range map[string]string{"static.go": staticAgent, "python": pythonAgent, "library": libraryAgent} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "static"), filepath.Join(dir, "static.go"))
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Skipf("%v: %s", err, out)
	}
	for _, agent := range []string{"static", "python", "library"} {
		for _, skip := range []bool{false, true} {
			for _, warm := range []bool{false, true} {
				verify := map[bool]string{false: "verify", true: "trust"}[skip]
				b.Run(agent+"/"+verify+"/"+map[bool]string{false: "cold", true: "warm"}[warm], func(b *testing.B) {
					median(b, membership.Device{Nodes: []membership.NodeID{1}, Agent: filepath.Join(dir, agent), Level: 1, Timeout: time.Minute, SkipVerify: skip}, warm)
				})
			}
		}
	}
}

func median(b *testing.B, d membership.Device, warm bool) {
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		b.Skip(err)
	}
	f := New(membership.Config{Devices: []membership.Device{d}})
	defer f.Close()
	var took []time.Duration
	for range b.N {
		if warm {
			f.Prepare(1)
			time.Sleep(300 * time.Millisecond) // until it reads
		}
		start := time.Now()
		if res := f.Fence(b.Context(), soon()); !res.OK {
			b.Fatalf("%+v", res)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
	b.ReportMetric(0, "ns/op")
}
