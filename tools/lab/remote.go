package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/tools/lab/internal/wire"
)

// The lab command's processes talk to the one that runs the lab over a unix
// socket: one JSON request line and one JSON reply line. After the reply to
// "dial" the socket is a connection to labnode in the node.

// Order is one request to a running lab.
type Order struct {
	Op   string // dial, down, cut, cut1, heal, status, or one of verbs
	Args []int  `json:",omitempty"` // node numbers
}

// Reply is the answer to an Order.
type Reply struct {
	Err  string `json:",omitempty"`
	Text string `json:",omitempty"`
}

// ServeControl answers orders until ctx ends or a "down" came.
func (l *Lab) ServeControl(ctx context.Context) error {
	if err := os.MkdirAll(socketDir, 0o700); err != nil {
		return err
	}
	name := filepath.Join(socketDir, l.Name())
	ln, err := net.Listen("unix", name)
	if err != nil {
		return err
	}
	ctx, down := context.WithCancel(ctx)
	defer down()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	for {
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return errors.Join(err, ln.Close())
		}
		go func() {
			defer c.Close()
			l.order(ctx, c, down)
		}()
	}
}

func (l *Lab) order(ctx context.Context, c net.Conn, down func()) {
	in := bufio.NewReader(c)
	line, err := in.ReadBytes('\n')
	var o Order
	if err == nil {
		err = json.Unmarshal(line, &o)
	}
	var text string
	switch {
	case err != nil:
	case o.Op == "dial":
		l.proxy(ctx, c, in, o)
		return
	case o.Op == "down":
		defer down()
	default:
		text, err = l.carryOut(ctx, o)
	}
	r := Reply{Text: text}
	if err != nil {
		r.Err = err.Error()
	}
	json.NewEncoder(c).Encode(r)
}

func (l *Lab) nodeArgs(args []int, want int) ([]*Node, error) {
	if len(args) != want {
		return nil, fmt.Errorf("%d node numbers, want %d", len(args), want)
	}
	var ns []*Node
	for _, a := range args {
		if a < 1 || a > len(l.nodes) {
			return nil, fmt.Errorf("no node %d: the lab has 1 to %d", a, len(l.nodes))
		}
		ns = append(ns, l.nodes[a-1])
	}
	return ns, nil
}

// verbs are the orders that concern one node.
var verbs = map[string]func(context.Context, *Node) (string, error){
	"kill":    func(ctx context.Context, n *Node) (string, error) { return stamp(n.Kill(ctx)) },
	"freeze":  func(ctx context.Context, n *Node) (string, error) { return stamp(n.Freeze(ctx)) },
	"thaw":    func(ctx context.Context, n *Node) (string, error) { return "", n.Thaw(ctx) },
	"boot":    func(ctx context.Context, n *Node) (string, error) { return "", n.Boot(ctx) },
	"reboot":  func(ctx context.Context, n *Node) (string, error) { return "", n.Reboot(ctx) },
	"console": func(_ context.Context, n *Node) (string, error) { return n.ConsoleLog(), nil },
	"cutnode": func(_ context.Context, n *Node) (string, error) { return "", n.lab.CutNode(n.id) },
}

func stamp(at time.Time, err error) (string, error) {
	if err != nil || at.IsZero() {
		return "", err
	}
	return at.Format("15:04:05.000"), nil
}

func (l *Lab) carryOut(ctx context.Context, o Order) (string, error) {
	if do, ok := verbs[o.Op]; ok {
		ns, err := l.nodeArgs(o.Args, 1)
		if err != nil {
			return "", err
		}
		return do(ctx, ns[0])
	}
	switch o.Op {
	case "cut", "cut1":
		if _, err := l.nodeArgs(o.Args, 2); err != nil {
			return "", err
		}
		if o.Op == "cut" {
			return "", l.Cut(o.Args[0], o.Args[1])
		}
		return "", l.CutOneWay(o.Args[0], o.Args[1])
	case "heal":
		return "", l.Heal()
	case "status":
		return l.Status(), nil
	}
	return "", fmt.Errorf("unknown order %q", o.Op)
}

// Status is a table of the nodes, and the cuts in force.
func (l *Lab) Status() string {
	var b strings.Builder
	fmt.Fprintf(&b, "lab %s, Linux %s\n", l.Name(), l.KernelVersion())
	for _, n := range l.nodes {
		fmt.Fprintf(&b, "%-8s %-8s %-9s %-12s %-12s %s\n", n.Name(), n.State(), n.Kernel(), n.Addr(), n.MgmtAddr(), n.BootID())
	}
	for _, c := range l.net.cuts() {
		fmt.Fprintln(&b, "cut     ", c)
	}
	return b.String()
}

// proxy joins a client to labnode in a node.
func (l *Lab) proxy(ctx context.Context, c net.Conn, in *bufio.Reader, o Order) {
	ns, err := l.nodeArgs(o.Args, 1)
	var node *wire.Conn
	stop := func() {}
	if err == nil {
		_, node, stop, err = ns[0].connect(ctx)
	}
	if err != nil {
		json.NewEncoder(c).Encode(Reply{Err: err.Error()})
		return
	}
	defer stop()
	json.NewEncoder(c).Encode(Reply{})
	go func() {
		io.Copy(node.ReadWriteCloser, in)
		stop()
	}()
	io.Copy(c, node.ReadWriteCloser)
}

// Remote is a lab that another process runs.
type Remote struct{ socket string }

// FindRemote finds a running lab of the lab command: the named one, or for ""
// the only one there is.
func FindRemote(name string) (*Remote, error) {
	es, _ := os.ReadDir(socketDir)
	var names []string
	for _, e := range es {
		if o, ok := parseOwner(e.Name()); ok && o.alive() && (name == "" || name == e.Name()) {
			names = append(names, e.Name())
		}
	}
	switch {
	case len(names) == 1:
		return &Remote{filepath.Join(socketDir, names[0])}, nil
	case len(names) > 1:
		return nil, fmt.Errorf("several labs run, choose with --lab: %s", strings.Join(names, " "))
	case name != "":
		return nil, fmt.Errorf("no lab %s runs here", name)
	}
	return nil, errors.New("no lab runs here: start one with `lab up`")
}

// Do sends an order and returns the text of its reply.
func (r *Remote) Do(o Order) (string, error) {
	c, text, err := r.open(o)
	if err != nil {
		return "", err
	}
	return text, c.Close()
}

// Start starts a program in a node; ctx ends it.
func (r *Remote) Start(ctx context.Context, node int, cmd Cmd) (*Proc, error) {
	c, _, err := r.open(Order{Op: "dial", Args: []int{node}})
	if err != nil {
		return nil, err
	}
	unhook := context.AfterFunc(ctx, func() { c.Close() })
	return startOn(ctx, &wire.Conn{ReadWriteCloser: c}, func() { unhook(); c.Close() }, cmd)
}

// Put copies a host file into a node.
func (r *Remote) Put(ctx context.Context, node int, local, remote string, mode os.FileMode) error {
	f, err := os.Open(local)
	if err != nil {
		return err
	}
	defer f.Close()
	c, _, err := r.open(Order{Op: "dial", Args: []int{node}})
	if err != nil {
		return err
	}
	defer c.Close()
	return putOn(ctx, &wire.Conn{ReadWriteCloser: c}, f, remote, mode)
}

func (r *Remote) open(o Order) (io.ReadWriteCloser, string, error) {
	c, err := net.Dial("unix", r.socket)
	if err != nil {
		return nil, "", err
	}
	if err := json.NewEncoder(c).Encode(o); err != nil {
		c.Close()
		return nil, "", err
	}
	in := bufio.NewReader(c)
	line, err := in.ReadBytes('\n')
	var rep Reply
	if err == nil {
		err = json.Unmarshal(line, &rep)
	}
	if err == nil && rep.Err != "" {
		err = errors.New(rep.Err)
	}
	if err != nil {
		c.Close()
		return nil, "", err
	}
	return buffered{in, c}, rep.Text, nil
}

// buffered reads what the reply's reader has read ahead first.
type buffered struct {
	in *bufio.Reader
	net.Conn
}

func (b buffered) Read(p []byte) (int, error) { return b.in.Read(p) }
