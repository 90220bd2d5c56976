package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"
)

// ErrNoPlug is of a node whose interfaces always have a carrier.
var ErrNoPlug = errors.New("only an emulated node has a plug that can be pulled")

// Plug pulls the plug of a node's end of a cluster link, from 0, or puts it in again. Its
// kernel sees the carrier go, and nothing passes. A node that boots has all plugs in.
func (n *Node) Plug(ctx context.Context, link int, in bool) error {
	what := fmt.Sprintf("plug of link %d of %s", link, n.Name())
	if link < 0 || link >= n.lab.cfg.Links {
		return fmt.Errorf("%s: the lab has links 0 to %d", what, n.lab.cfg.Links-1)
	}
	n.mu.Lock()
	_, emulated := n.back.(*qemu)
	on := n.run != nil
	n.mu.Unlock()
	switch {
	case !emulated:
		return fmt.Errorf("%s: %w", what, ErrNoPlug)
	case !on:
		return fmt.Errorf("%s: %w", what, ErrDown)
	}
	if err := monitor(ctx, n.monitor(), "set_link", map[string]any{"name": netdev(interfaceOf(link)), "up": in}); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// interfaceOf is the number of a cluster link's interface in a node: the second one is the
// management network's.
func interfaceOf(link int) int {
	if link == 0 {
		return 0
	}
	return link + 1
}

// monitor is the emulator's socket.
func (n *Node) monitor() string { return filepath.Join(n.lab.dir, n.Name()+".monitor") }

// monitorLimit is how long an emulator may take to do what it is told.
const monitorLimit = 5 * time.Second

// monitor has an emulator do something, by QEMU's machine protocol.
func monitor(ctx context.Context, socket, command string, arguments any) error {
	ctx, cancel := context.WithTimeout(ctx, monitorLimit)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // it was answered, or will not be
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	out, in := json.NewEncoder(c), json.NewDecoder(c)
	for _, r := range []map[string]any{{"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}} {
		if err := out.Encode(r); err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		if err := answered(in); err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
	}
	return nil
}

// answered reads up to an answer, over the greeting and events.
func answered(in *json.Decoder) error {
	for {
		var a struct {
			Return *json.RawMessage
			Error  *struct{ Desc string }
		}
		switch err := in.Decode(&a); {
		case err != nil:
			return err
		case a.Error != nil:
			return errors.New(a.Error.Desc)
		case a.Return != nil:
			return nil
		}
	}
}
