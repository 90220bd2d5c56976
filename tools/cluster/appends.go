package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/tools/lab"
)

// StartAppend starts a program on a node that appends to a file with fsync, so
// many times a second, and tells each append when it is on the disk, over the
// management network.
func (c *Cluster) StartAppend(ctx context.Context, i int, file string, rate float64) (*lab.Proc, error) {
	return c.Lab.Node(i).Start(ctx, lab.Cmd{Args: []string{Labnode, "append", file, "--id", fmt.Sprint(i), "--rate", fmt.Sprint(rate), "--notify", notify}})
}

// Appended is the highest append of a node to a file that was told to be on the disk.
func (c *Cluster) Appended(i int, file string) uint64 {
	var n uint64
	for _, e := range c.Events.All() {
		if e.Told == "append" && e.Node == i && e.File == file {
			n = max(n, e.Number)
		}
	}
	return n
}

// WaitAppend waits for an append of a node to a file after a time. A program that had to
// give up says why.
func (c *Cluster) WaitAppend(ctx context.Context, i int, file string, after time.Time) error {
	e, err := c.Events.Wait(ctx, after, func(e Event) bool { return strings.HasPrefix(e.Told, "append") && e.Node == i && e.File == file })
	if err == nil && e.Told != "append" {
		err = fmt.Errorf("node%d: %s: %s", i, e.Told, e.Text)
	}
	return err
}

// VerifyAppends reads files on a node, each with the appends of one writer: all
// up to last are there, and everything is there once.
func (c *Cluster) VerifyAppends(ctx context.Context, on int, files ...Appends) error {
	var script strings.Builder
	for _, f := range files {
		fmt.Fprintf(&script, "%s verify %s --want %d:%d\n", Labnode, f.File, f.Writer, f.Last)
	}
	out, err := c.Lab.Node(on).Exec(ctx, script.String())
	if err != nil {
		return err
	}
	dec := json.NewDecoder(strings.NewReader(out.Stdout))
	for _, f := range files {
		var raw json.RawMessage
		var r struct{ OK bool }
		err := dec.Decode(&raw)
		if err == nil {
			err = json.Unmarshal(raw, &r)
		}
		if err != nil || !r.OK {
			return fmt.Errorf("node%d reads %s, of which %d appends were told: %v %s%s", on, f.File, f.Last, err, raw, out.Stderr)
		}
	}
	return nil
}

// Appends are what is to be found in a file.
type Appends struct {
	File   string
	Writer int
	Last   uint64
}

// Keep saves below dir what helps to understand a failure: the events, what the
// daemons wait for, their logs and the kernels', with the tasks that are blocked at
// the end, and the consoles.
func (c *Cluster) Keep(ctx context.Context, dir string) error {
	if err := c.SaveEvents(dir); err != nil {
		return err
	}
	for _, n := range c.Lab.Nodes() {
		files := map[string]string{".console.log": n.ConsoleTail(2000)}
		if r, err := n.Exec(ctx, "quorate why; echo w >/proc/sysrq-trigger"); err == nil {
			files[".why"] = r.Stdout + r.Stderr
		}
		if r, err := n.Exec(ctx, "quorate links -o json"); err == nil {
			files[".links"] = r.Stdout + r.Stderr
		}
		if r, err := n.Exec(ctx, "dmesg | tail -n 2000"); err == nil {
			files[".dmesg"] = r.Stdout
		}
		files[".quorated.log"] = c.Log(ctx, n.ID(), 20000)
		for ext, text := range files {
			if err := os.WriteFile(filepath.Join(dir, n.Name()+ext), []byte(text), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
