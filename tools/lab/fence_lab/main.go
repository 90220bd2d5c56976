// Command fence_lab is a fence agent for the lab's power switch. It keeps to the
// contract of fence-agents: key=value lines on standard input (or options with
// the same names), exit status 0 for success, 1 for failure, and 2 when status
// finds the plug off.
//
//	printf 'action=off\nip=10.78.0.1\nplug=3\n' | fence_lab
//
// It is small, since a page that is touched for the first time costs a virtual
// node 0.1 ms: sockets without package net, and where it is started before it is
// needed, a rehearsal while it waits.
package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	exitOK     = 0
	exitFailed = 1
	exitOff    = 2
)

// options by their long names.
type options map[string]string

// aliases are the names that fence-agents accepts for the same thing.
var aliases = map[string]string{
	"o": "action", "option": "action", "a": "ip", "ipaddr": "ip", "u": "ipport", "n": "plug", "port": "plug",
	"l": "username", "login": "username", "p": "password", "passwd": "password",
}

func (o options) set(k, v string) {
	if long, ok := aliases[k]; ok {
		k = long
	}
	o[k] = v
}

// parseArgs reads --key=value, --key value and -k value.
func parseArgs(args []string) (options, error) {
	o := options{}
	for len(args) > 0 {
		name, value, ok := strings.Cut(strings.TrimLeft(args[0], "-"), "=")
		if !strings.HasPrefix(args[0], "-") || name == "" {
			return nil, fmt.Errorf("%q is no option", args[0])
		}
		args = args[1:]
		if !ok {
			if len(args) == 0 {
				return nil, fmt.Errorf("option %s lacks a value", name)
			}
			value, args = args[0], args[1:]
		}
		o.set(name, value)
	}
	return o, nil
}

// parseInput reads key=value lines; empty ones and comments are skipped, and
// names it does not know are kept, as the contract asks.
func parseInput(r io.Reader) (options, error) {
	o := options{}
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		k, v, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not key=value", line)
		}
		o.set(k, v)
	}
	return o, sc.Err()
}

func main() {
	var o options
	var err error
	if len(os.Args) > 1 {
		o, err = parseArgs(os.Args[1:])
	} else {
		runtime.LockOSThread() // see alone
		ahead()
		o, err = parseInput(os.Stdin)
	}
	code := exitFailed
	if err == nil {
		code, err = run(o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fence_lab:", err)
	}
	os.Exit(code)
}

func run(o options, out io.Writer) (int, error) {
	action := o["action"]
	switch action {
	case "metadata":
		_, err := io.WriteString(out, metadata)
		return exitOK, err
	case "validate-all":
		return exitOK, nil
	case "list", "list-status", "monitor":
		lines, err := ask(o, "list")
		if err != nil {
			return exitFailed, err
		}
		if action != "monitor" {
			fmt.Fprintln(out, strings.Join(lines, "\n"))
		}
		return exitOK, nil
	case "":
		action = "reboot"
	case "off", "on", "reboot", "status":
	default:
		return exitFailed, fmt.Errorf("unknown action %q", action)
	}
	if o["plug"] == "" {
		return exitFailed, errors.New("no plug")
	}
	lines, err := ask(o, strings.TrimSpace(action+" "+o["plug"]+" "+o["via"]))
	if err != nil {
		return exitFailed, err
	}
	return judge(action, strings.Join(lines, " "), out)
}

// judge turns the device's word into an exit status. Success of off is nothing
// but the word off, and of on the word on.
func judge(action, state string, out io.Writer) (int, error) {
	want := map[string]string{"off": "off", "on": "on", "reboot": "on"}[action]
	switch {
	case action == "status" && state == "off":
		fmt.Fprintln(out, "Status: OFF")
		return exitOff, nil
	case action == "status" && state == "on":
		fmt.Fprintln(out, "Status: ON")
		return exitOK, nil
	case want != "" && state == want:
		fmt.Fprintln(out, "Success:", action)
		return exitOK, nil
	}
	return exitFailed, fmt.Errorf("%s: the device says %q", action, state)
}

// ask sends one request and returns the lines of the answer, without the "ok".
func ask(o options, req string) ([]string, error) {
	if o["ip"] == "" {
		return nil, errors.New("no ip")
	}
	port := o["ipport"]
	if port == "" {
		port = "7079"
	}
	limit := 20.0
	if v := o["power_timeout"]; v != "" {
		var err error
		if limit, err = strconv.ParseFloat(v, 64); err != nil {
			return nil, fmt.Errorf("power_timeout %q: %w", v, err)
		}
	}
	end := time.Now().Add(time.Duration(limit * float64(time.Second)))
	c, err := dial(o["ip"], port, end)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := io.WriteString(c, req+"\n"); err != nil {
		return nil, err
	}
	return answer(c)
}

// ahead goes through everything once when nothing is on standard input yet: then
// the options come later, somebody waits for what is done with them, and a page
// that is touched for the first time is slow.
func ahead() {
	in := []unix.PollFd{{Fd: 0, Events: unix.POLLIN}}
	if n, err := unix.Poll(in, 0); n != 0 || err != nil {
		return
	}
	o, err := parseInput(strings.NewReader("action=off\nip=127.0.0.1\nipport=1\nplug=0\n"))
	if err == nil {
		_, err = run(o, io.Discard) // nobody listens there
	}
	_, _ = fmt.Fprintln(io.Discard, "fence_lab:", err)
	alone()
	if lines, err := answer(strings.NewReader("ok off\n")); err == nil {
		_, _ = judge("off", strings.Join(lines, " "), io.Discard)
	}
}

// alone lets the threads of the Go runtime run only when nothing else wants to:
// one of them looks after the others each 20 us, which on a virtual node's single
// processor takes longer than what this program does.
func alone() {
	tasks, _ := filepath.Glob("/proc/self/task/*")
	for _, t := range tasks {
		if tid, err := strconv.Atoi(filepath.Base(t)); err == nil && tid != unix.Gettid() {
			_ = unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
		}
	}
}

func answer(r io.Reader) (lines []string, err error) {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		word, rest, _ := strings.Cut(sc.Text(), " ")
		switch {
		case word == "ok" && rest != "":
			return append(lines, rest), nil
		case word == "ok":
			return lines, nil
		case word == "error":
			return nil, errors.New(rest)
		case word == die || word == say:
			misbehave(word, rest)
			continue
		}
		lines = append(lines, sc.Text())
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	return nil, io.ErrUnexpectedEOF
}

// The words of the switch that are for the agent (fencedev.Die and Say, which it
// does not import: it would be five times as large).
const (
	die = "die"
	say = "say"
)

// misbehave is what the switch can tell this agent to do: to die, or to print what
// no agent should.
func misbehave(word, rest string) {
	if word == die {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL) // cannot fail
	}
	b, _ := hex.DecodeString(rest) // what can be read of it
	_, _ = os.Stdout.Write(b)
}

const metadata = `<?xml version="1.0" ?>
<resource-agent name="fence_lab" shortdesc="Fence agent for the lab's virtual nodes">
<longdesc>fence_lab drives the power switch of a lab of virtual nodes.</longdesc>
<parameters>
	<parameter name="action" unique="0" required="1"><getopt mixed="-o, --action=[action]"/><content type="string" default="reboot"/><shortdesc lang="en">Fencing action</shortdesc></parameter>
	<parameter name="ip" unique="0" required="1"><getopt mixed="-a, --ip=[ip]"/><content type="string"/><shortdesc lang="en">Address of the device</shortdesc></parameter>
	<parameter name="ipport" unique="0" required="0"><getopt mixed="-u, --ipport=[port]"/><content type="integer" default="7079"/><shortdesc lang="en">TCP port of the device</shortdesc></parameter>
	<parameter name="plug" unique="0" required="1"><getopt mixed="-n, --plug=[id]"/><content type="string"/><shortdesc lang="en">Number of the node</shortdesc></parameter>
	<parameter name="power_timeout" unique="0" required="0"><getopt mixed="--power_timeout=[seconds]"/><content type="second" default="20"/><shortdesc lang="en">How long to wait for the device</shortdesc></parameter>
</parameters>
<actions>
	<action name="on" automatic="0"/>
	<action name="off"/>
	<action name="reboot"/>
	<action name="status"/>
	<action name="list"/>
	<action name="list-status"/>
	<action name="monitor"/>
	<action name="metadata"/>
	<action name="validate-all"/>
</actions>
</resource-agent>
`
