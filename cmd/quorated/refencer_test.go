package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/agent"
)

// slow writes an agent that says when it runs, waits for a word and then succeeds.
func slow(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	script := "#!/bin/sh\ncat >/dev/null\ntouch " + path + ".runs\nwhile [ ! -e " + path + ".go ]; do sleep 0.01; done\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func devices(program string) config.Config {
	return config.Config{Config: membership.Config{Nodes: []membership.Node{{ID: 2, Name: "beta"}},
		Devices: []membership.Device{{Nodes: []membership.NodeID{2}, Agent: program, Level: 1, Timeout: time.Minute, SkipVerify: true}}}}
}

// A run goes on with the device that it began with; the next one has the new one.
func TestARunEndsWithItsOwnDevice(t *testing.T) {
	dir := t.TempDir()
	old, now := slow(t, dir, "fence_old"), slow(t, dir, "fence_new")
	f := newRefencer(devices(old))
	job := membership.FenceJob{Victim: membership.Incarnation{Node: 2}, Deadline: 1 << 62}
	done := make(chan membership.FenceResult)
	fence := func() { done <- f.Fence(context.Background(), job) }
	go fence()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(old + ".runs"); err == nil {
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal("the agent was not started")
		}
	}
	f.Configure(devices(now).Config)
	for _, program := range []string{old, now} {
		if err := os.WriteFile(program+".go", nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := <-done; !r.OK || r.Agent != filepath.Base(old) {
		t.Fatalf("%+v", r)
	}
	go fence()
	if r := <-done; !r.OK || r.Agent != filepath.Base(now) {
		t.Fatalf("%+v", r)
	}
	f.Configure(membership.Config{Nodes: devices(now).Nodes})
	if r := f.Fence(context.Background(), job); r.OK || r.Agent != "manual" {
		t.Fatalf("without devices: %+v", r)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f.Configure(devices(old).Config) // after the end nothing begins
}

func TestReady(t *testing.T) {
	f := newRefencer(devices("fence_none"))
	path := slow(t, t.TempDir(), "fence_here")
	if err := f.Ready(membership.Device{Agent: path}); err != nil {
		t.Error(err)
	}
	if err := f.Ready(membership.Device{Agent: path, Options: map[string]string{"password_file": path + ".none"}}); !errors.Is(err, agent.ErrSecret) {
		t.Error(err)
	}
	if err := f.Ready(membership.Device{Agent: "fence_nowhere"}); !errors.Is(err, agent.ErrNoAgent) {
		t.Error(err)
	}
}
