// Package cluster is a quorate cluster on the lab's nodes: real kernels, the
// real daemon, the real GFS2. The demo and the acceptance stories are told with
// it, and the benchmark of recovery measures with it.
//
//	c, err := cluster.New(ctx, cluster.Options{Nodes: 3, Profile: "lan"})
//	defer c.Close()
//	err = c.Up(ctx)            // boot, configure, start quorated, wait for all members
//	err = c.Mkfs(ctx, 3)
//	err = c.Each(ctx, c.Nodes(), c.Mount)
//	at, err := c.Kill(ctx, 2)  // sudden death, by the host's clock
//
// Every event of every daemon is collected with the host's time on it, so that
// times of different nodes compare.
package cluster
