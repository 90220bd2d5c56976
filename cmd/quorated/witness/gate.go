package witness

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Connections that have not proved who they are, at one time. A witness faces
// networks that others use.
const (
	maxStrangers = 64   // from all addresses from which nobody has proved it before
	maxPerAddr   = 8    // from one address
	maxKnown     = 4096 // addresses of nodes that are remembered
	complainNext = 10 * time.Second
)

// gate bounds them. Whoever takes up all places of strangers takes none from an
// address that a node has come from.
type gate struct {
	mu        sync.Mutex
	pending   map[netip.Addr]int
	strangers int
	known     map[netip.Addr]bool
	quiet     time.Time // no complaint before
}

func newGate() *gate { return &gate{pending: map[netip.Addr]int{}, known: map[netip.Addr]bool{}} }

// enter gives a place, to be left once, or says that there is none.
func (g *gate) enter(from netip.Addr) (leave func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	stranger := !g.known[from]
	if g.pending[from] >= maxPerAddr || stranger && g.strangers >= maxStrangers {
		return nil, false
	}
	g.pending[from]++
	if stranger {
		g.strangers++
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.pending[from]--; g.pending[from] == 0 {
			delete(g.pending, from)
		}
		if stranger {
			g.strangers--
		}
	}, true
}

// know notes an address that a node has come from.
func (g *gate) know(from netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.known) < maxKnown {
		g.known[from] = true
	}
}

// complain says whether one more refusal is worth a line of the log.
func (g *gate) complain(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.quiet) {
		return false
	}
	g.quiet = now.Add(complainNext)
	return true
}

func addrOf(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
