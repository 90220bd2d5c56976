package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/tools/cluster"
)

// pesterEvery is between two questions to a daemon: without it the daemons, with their
// real-time priority, would take all CPUs from each other.
const pesterEvery = 2 * time.Millisecond

// Pester asks every daemon for what it knows again and again until ctx ends: each
// answer is garbage afterwards. One that stands still answers late.
func (q *Quorate) Pester(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	for i := range q.fabric.nodes {
		g.Go(func() error {
			for k := 0; cluster.Sleep(gctx, pesterEvery) == nil; k++ {
				command := []string{"status", "events", "links"}[k%3]
				if _, err := q.call(gctx, i+1, control.Request{Command: command}); err != nil && gctx.Err() == nil {
					return fmt.Errorf("ask node %d for its %s: %w", i+1, command, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// KernelAnswers says whether the kernels of all nodes answer their peers' probes.
func (q *Quorate) KernelAnswers(ctx context.Context) (bool, error) {
	for i := range q.fabric.nodes {
		r, err := q.call(ctx, i+1, control.Request{Command: "links"})
		if err != nil {
			return false, fmt.Errorf("node %d: %w", i+1, err)
		}
		if r.Links == nil {
			return false, fmt.Errorf("node %d: an answer without links", i+1)
		}
		for _, l := range r.Links.Links {
			if l.Answers != "kernel" {
				return false, nil
			}
		}
	}
	return true, nil
}

// collection is what the runtime says of each when GODEBUG has gctrace=1.
var collection = regexp.MustCompile(`(?m)^gc [0-9]+ @`)

// collections counts how often all daemons have collected garbage, if they tell it.
func (q *Quorate) collections() (sum int, err error) {
	for i := range q.fabric.nodes {
		data, err := os.ReadFile(q.path("%d.log", i+1))
		if err != nil {
			return 0, err
		}
		sum += len(collection.FindAllIndex(data, -1))
	}
	return sum, nil
}

// call asks a node's daemon.
func (q *Quorate) call(ctx context.Context, node int, req control.Request) (control.Response, error) {
	c, err := control.Dial(q.socket(node))
	if err != nil {
		return control.Response{}, err
	}
	defer func() { _ = c.Close() }() // used up by Call
	return c.Call(ctx, req)
}
