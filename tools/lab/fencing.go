package lab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"github.com/quorate/quorate/tools/lab/fencedev"
)

// FenceAddr is the host's address on the management network, where the fence
// devices are: Redfish over HTTPS on port 443 (user and password "lab", node n is
// /redfish/v1/Systems/n), and the protocol of fence_lab on port 7079.
const FenceAddr = "10.78.0.1"

// fencing is the lab's power switch and its two front ends.
type fencing struct {
	sw    *fencedev.Switch
	lines net.Listener
	web   *http.Server

	boards *boards // nil: StartBoards was not called
}

func (l *Lab) startFencing(ctx context.Context) error {
	machines := map[int]fencedev.Machine{}
	for _, n := range l.nodes {
		machines[n.id] = n
	}
	cert, err := fencedev.Certificate(net.ParseIP(FenceAddr))
	if err != nil {
		return err
	}
	lines, err := l.ns.listen(ctx, "tcp", fmt.Sprintf("%s:%d", FenceAddr, fencedev.LinePort))
	if err != nil {
		return err
	}
	web, err := l.ns.listen(ctx, "tcp", FenceAddr+":443")
	if err != nil {
		return errors.Join(err, lines.Close())
	}
	l.fence = &fencing{sw: fencedev.New(machines), lines: lines}
	l.fence.web = &http.Server{Handler: l.fence.sw.Redfish(), ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}}
	l.tasks.Go(func() { l.fence.sw.ServeLines(lines) })
	l.tasks.Go(func() { l.fence.web.ServeTLS(web, "", "") })
	return nil
}

func (f *fencing) close() error {
	f.sw.Close()
	if f.boards != nil {
		return errors.Join(f.boards.close(), f.lines.Close(), f.web.Close())
	}
	return errors.Join(f.lines.Close(), f.web.Close())
}

// Power is the switch behind both fence devices: its log, and its faults.
func (l *Lab) Power() *fencedev.Switch { return l.fence.sw }

// PowerLog is every power action that a fence device was asked for.
func (l *Lab) PowerLog() []fencedev.Record { return l.fence.sw.Log() }

// Misbehave tells the fence devices how to treat a node from now on.
func (l *Lab) Misbehave(node int, f ...fencedev.Fault) { l.fence.sw.Misbehave(node, f...) }

// PowerOff is Kill as a fence device does it: it returns nil once no process of
// the node can write any more, at once when the node is off.
func (n *Node) PowerOff(ctx context.Context) error {
	_, err := n.Kill(ctx)
	return err
}

// PowerOn starts the node, waiting only for what is left of its last life. It
// does nothing when the node is on.
func (n *Node) PowerOn(ctx context.Context) error {
	if _, err := n.powerOn(ctx); err != nil && !errors.Is(err, ErrRunning) {
		return err
	}
	return nil
}
