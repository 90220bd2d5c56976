package fencetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/membership"
)

// Program is the name of the scripted agent.
const Program = "fence_script"

// script reads options like any fence agent. `log` gets each action, `state` is
// the power of the node, `mode` is what the device does, `mark` names its
// children so that a test can look for them.
const script = `#!/bin/sh
mode=ok action=off
while IFS= read -r line; do
	case $line in
	mode=*) mode=${line#*=} ;;
	log=*) log=${line#*=} ;;
	state=*) state=${line#*=} ;;
	mark=*) mark=${line#*=} ;;
	plug=*) plug=${line#*=} ;;
	password=*) password=${line#*=} ;;
	action=*) action=${line#*=} ;;
	*) echo "unknown option $line" >&2 ;;
	esac
done
echo "$action $plug" >>"$log"
off() { echo off >"$state"; echo "Success: Powered OFF"; exit 0; }
status() {
	if [ "$(cat "$state" 2>/dev/null)" = off ]; then echo "Status: OFF"; exit 2; fi
	echo "Status: ON"; exit 0
}
case $action/$mode in
status/statushang) sleep "$mark" ;;
status/statusmegabyte) head -c 1048576 /dev/zero | tr '\0' x; echo; status ;;
status/statusgarbage) head -c 3000 /dev/urandom; exit 1 ;;
status/statuscrash) kill -SEGV $$ ;;
status/statusfail) echo "lost connection" >&2; exit 1 ;;
status/slow)
	n=$(grep -c "^status" "$log")
	[ "$n" -gt 2 ] && echo off >"$state"
	status ;;
status/*) status ;;
monitor/fail) echo "Unable to connect/login to fencing device" >&2; exit 1 ;;
monitor/secretfail) echo "cannot log in with $password" >&2; exit 1 ;;
monitor/hang) exec sleep "$mark" ;;
monitor/*) exit 0 ;;
on/onfails) echo "port 3: no such port" >&2; exit 1 ;;
on/*) echo on >"$state"; echo "Success: Powered ON"; exit 0 ;;
*/ok | */status*) off ;;
*/fail) echo "Unable to connect/login to fencing device" >&2; exit 1 ;;
*/hang) sleep "$mark" & sleep "$mark"; exit 0 ;;
*/escape) setsid sleep "$mark" & off ;;
*/crash) kill -SEGV $$ ;;
*/garbage) head -c 3000 /dev/urandom; off ;;
*/megabyte) head -c 1048576 /dev/zero | tr '\0' x; echo the end; off ;;
*/lying | */slow) echo "Success: Powered OFF"; exit 0 ;;
*/secret) echo "login with $password"; echo "passwd=$password"; echo "Authorization: Basic c2VjcmV0"; off ;;
*/fds) ls /proc/self/fd; off ;;
*/env) env; pwd; off ;;
*/priority) cut -d ' ' -f 19,40,41 /proc/self/stat; off ;;
esac
exit 1
`

// Lab is a directory with the scripted agent and what it wrote.
type Lab struct {
	Dir string
	t   testing.TB
}

// NewLab writes the agent.
func NewLab(t testing.TB) *Lab {
	t.Helper()
	l := &Lab{Dir: t.TempDir(), t: t}
	if err := os.WriteFile(filepath.Join(l.Dir, Program), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return l
}

// Device returns a device of node 1 that does what mode says, with its own
// state; name tells it from others.
func (l *Lab) Device(name, mode string) membership.Device {
	return membership.Device{
		Nodes: []membership.NodeID{1}, Agent: Program, Level: 1, Timeout: generous,
		Options: map[string]string{
			"mode": mode, "plug": name, "log": filepath.Join(l.Dir, "log"), "state": filepath.Join(l.Dir, "state."+name), "mark": l.Mark(),
		},
	}
}

// Mark is the argument of the agent's sleeping children.
func (l *Lab) Mark() string { return fmt.Sprintf("86400.%d", os.Getpid()) }

// Log returns what the agents were asked to do: "off a", "status a" ... An agent makes the
// file a moment before it writes its line, which may be its first.
func (l *Lab) Log() []string {
	data, err := os.ReadFile(filepath.Join(l.Dir, "log"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		l.t.Fatal(err)
	}
	if len(data) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

// Survivors returns the processes that the agents left behind, and zombies of ours or
// of processes that we started.
func (l *Lab) Survivors() []string {
	var out []string
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		l.t.Fatal(err)
	}
	parents, zombies := map[string]string{}, map[string]string{} // by the path of the process
	for _, d := range dirs {
		cmd, _ := os.ReadFile(d + "/cmdline")
		stat, _ := os.ReadFile(d + "/stat")
		if strings.Contains(string(cmd), "sleep\x00"+l.Mark()) {
			out = append(out, d+" "+strings.ReplaceAll(string(cmd), "\x00", " "))
		}
		// pid (comm) state ppid
		i := strings.LastIndexByte(string(stat), ')')
		if i < 0 {
			continue
		}
		if f := strings.Fields(string(stat[i+1:])); len(f) > 1 {
			parents[d] = "/proc/" + f[1]
			if f[0] == "Z" {
				zombies[d] = string(stat[:i+1])
			}
		}
	}
	self := fmt.Sprintf("/proc/%d", os.Getpid())
	for d, name := range zombies {
		if p := parents[d]; p == self || parents[p] == self {
			out = append(out, d+" zombie "+name)
		}
	}
	return out
}
