// Package daemon is the edge of quorated: it opens the log, the network, the
// probes, the kernel and the control socket, feeds what they say to the pure
// machine of cmd/quorated/node, and executes its effects in their order.
//
// One goroutine, the loop, owns the machine. It writes the log itself (a record
// is durable before anything after it happens) and hands everything else that
// may block to others, whose answers come back as inputs. The loop ticks the
// progress word that peers see in every probe's answer, so a loop that hangs is
// visible to them.
package daemon
