// Command labnode is what the lab runs inside a node: init, the server behind
// Exec and Put, and small programs that tests and demonstrations use.
//
//	labnode init                       process 1: mounts, network, modules; then run commands for the host
//	labnode serve                      the latter alone, beside another process 1
//	labnode flock hold FILE            take an exclusive flock, print "held", keep it
//	labnode flock wait FILE            block for a shared flock, tell the host when granted
//	labnode cycle DIR --id N           lock a new file after the other, tell the host each one's number
//	labnode kmsg WORD...               tell the host each new line of the kernel's log with one of the words
//	labnode append FILE --id N         append + fsync for ever, tell the host each sequence
//	labnode verify FILE --want N:SEQ   every append that was told is there exactly once
//	labnode dlm create|release LS...   join or leave lockspaces, all at once (--exclusive, --force)
//	labnode dlm rounds LS --count N    join, lock, unlock, leave, N times
//	labnode dlm locks LS               lock, convert and unlock as the input says
//	labnode dlm count LS RES DISK      count up a number on a shared disk under a lock, tell the host each
//	labnode udp send|recv ADDR         does one node hear another?
//
// --notify ADDR names the collector; the default is the host on the cluster
// network, 10.77.0.1:9999.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/quorate/quorate/tools/lab/internal/wire"
)

func main() {
	cmds := map[string]func([]string) error{
		"init": initNode, "serve": serve, "flock": flock, "append": appendLoop, "cycle": cycle, "kmsg": kmsg, "verify": verify, "dlm": dlm, "udp": udp,
	}
	if strings.HasPrefix(filepath.Base(os.Args[0]), wire.Reboot) {
		os.Exit(wire.Rebooted)
	}
	if os.Getpid() == 1 {
		os.Args = []string{"labnode", "init"}
	}
	if len(os.Args) < 2 || cmds[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: labnode init|serve|flock|cycle|kmsg|append|verify|dlm|udp ...")
		os.Exit(2)
	}
	if err := cmds[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "labnode "+os.Args[1]+":", err)
		os.Exit(1)
	}
}
