package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// CollectPort is the port of Lab.Collector, on the host's addresses of all networks.
const CollectPort = 9999

// Ev is one thing that a node told: a datagram, or one JSON line of it.
type Ev struct {
	At   time.Time      // arrival, by the host's clock
	From netip.AddrPort // sender
	Raw  string         // the line
	JSON map[string]any // nil when Raw is no JSON object

	// The fields that labnode's programs send.
	Node, Event, File string
	ID, Seq           int
}

// FromNode is the number of the node that sent it, 0 for others.
func (e Ev) FromNode() int {
	if !e.From.Addr().Is4() {
		return 0
	}
	if a := e.From.Addr().As4(); a[0] == 10 && (a[1] == 77 || a[1] == 78) && a[3] > 10 {
		return int(a[3]) - 10
	}
	return 0
}

// Collector takes datagrams from nodes and stamps them on arrival, so that the
// times of a story are all on one clock. It keeps everything it got.
type Collector struct {
	conn net.PacketConn
	done chan struct{}

	mu   sync.Mutex
	evs  []Ev
	wake chan struct{} // closed when evs grows
}

// Collect makes a collector at an address of the host, such as 10.77.0.1:9998.
// Close of the lab closes it.
func (l *Lab) Collect(ctx context.Context, addr string) (*Collector, error) {
	conn, err := l.ns.listenPacket(ctx, "udp4", addr)
	if err != nil {
		return nil, err
	}
	if u, ok := conn.(*net.UDPConn); ok {
		u.SetReadBuffer(8 << 20) // as much as the host allows; losing some is no error
	}
	c := newCollector(conn)
	l.collMu.Lock()
	l.collectors = append(l.collectors, c)
	l.collMu.Unlock()
	return c, nil
}

func newCollector(conn net.PacketConn) *Collector {
	c := &Collector{conn: conn, done: make(chan struct{}), wake: make(chan struct{})}
	go c.read()
	return c
}

// Close ends the collector; what it has stays readable.
func (c *Collector) Close() {
	c.conn.Close()
	<-c.done
}

func (c *Collector) read() {
	defer close(c.done)
	buf := make([]byte, 64<<10)
	for {
		n, from, err := c.conn.ReadFrom(buf)
		at := time.Now()
		if err != nil {
			return
		}
		ap, _ := netip.ParseAddrPort(from.String())
		c.add(parseDatagram(at, ap, string(buf[:n])))
	}
}

func (c *Collector) add(evs []Ev) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.evs = append(c.evs, evs...)
	close(c.wake)
	c.wake = make(chan struct{})
}

// parseDatagram makes an event of each line.
func parseDatagram(at time.Time, from netip.AddrPort, text string) (evs []Ev) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		e := Ev{At: at, From: from, Raw: line}
		if json.Unmarshal([]byte(line), &e.JSON) == nil {
			e.Node, _ = e.JSON["node"].(string)
			e.Event, _ = e.JSON["event"].(string)
			e.File, _ = e.JSON["file"].(string)
			e.ID, e.Seq = number(e.JSON["id"]), number(e.JSON["seq"])
		}
		evs = append(evs, e)
	}
	return evs
}

func number(v any) int {
	f, _ := v.(float64)
	return int(f)
}

// Mark is a point in what a collector got.
type Mark int

// Mark is now: WaitFrom with it looks at what comes later only.
func (c *Collector) Mark() Mark {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Mark(len(c.evs))
}

// Since returns what came since a mark; Since(0) is everything.
func (c *Collector) Since(m Mark) []Ev {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Ev(nil), c.evs[min(int(m), len(c.evs)):]...)
}

// Wait returns the first event that match accepts, among those there and those
// to come.
func (c *Collector) Wait(ctx context.Context, match func(Ev) bool) (Ev, error) {
	return c.WaitFrom(ctx, 0, match)
}

// WaitFrom is Wait for what came since a mark.
func (c *Collector) WaitFrom(ctx context.Context, m Mark, match func(Ev) bool) (Ev, error) {
	for next := int(m); ; {
		c.mu.Lock()
		evs, wake := c.evs[min(next, len(c.evs)):], c.wake
		c.mu.Unlock()
		for _, e := range evs {
			if next++; match(e) {
				return e, nil
			}
		}
		select {
		case <-wake:
		case <-c.done:
			return Ev{}, net.ErrClosed
		case <-ctx.Done():
			return Ev{}, fmt.Errorf("no such event among %d: %w", next-int(m), context.Cause(ctx))
		}
	}
}
