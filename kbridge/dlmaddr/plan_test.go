package dlmaddr

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	self    = netip.MustParseAddr("10.99.0.1")
	network = netip.MustParsePrefix("10.99.0.0/24")
)

// way is the route to node n over link l.
func way(n, l int) Route {
	at := func(a, b, c, d int) netip.Addr { return netip.AddrFrom4([4]byte{byte(a), byte(b), byte(c), byte(d)}) }
	return Route{To: at(10, 99, 0, n), Via: at(10, 0, l, n), From: at(10, 0, l, 1)}
}

// memory is a kernel in memory. Link l is interface l+2.
type memory struct {
	mu     sync.Mutex // Run looks while a test changes what there is
	have   Have
	done   []string
	refuse map[Kind]error
	unread error
	closed bool
}

func newMemory(links int) *memory {
	m := &memory{have: Have{Links: map[netip.Addr]Link{}}, refuse: map[Kind]error{}}
	for l := range links {
		m.have.Links[way(1, l).From] = Link{l + 2, true}
	}
	return m
}

// edit changes what there is.
func (m *memory) edit(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *memory) Read(Wanted) (Have, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.have
	h.Routes = slices.Clone(h.Routes)
	return h, m.unread
}

func (m *memory) Close() { m.closed = true }

func (m *memory) Apply(o Op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refuse[o.Kind]; err != nil {
		return err
	}
	m.done = append(m.done, o.String())
	same := func(r Installed) bool { return r.Dst == o.Dst && r.Metric == o.Metric }
	switch o.Kind {
	case AddAddress:
		m.have.Holder = Interface
	case DelAddress:
		if o.Dst == host(self) {
			m.have.Holder = ""
		}
		m.have.Strange = slices.DeleteFunc(m.have.Strange, func(p netip.Prefix) bool { return p == o.Dst })
	case AddGuard, DelGuard:
		m.have.Guard = o.Kind == AddGuard
	case SetRoute:
		if m.have.Holder == "" {
			return errors.New("the source is not there")
		}
		m.have.Routes = append(slices.DeleteFunc(m.have.Routes, same), Installed{Dst: o.Dst, Via: o.Via, Src: o.Src, Link: o.Link, Metric: o.Metric})
	case DelRoute:
		m.have.Routes = slices.DeleteFunc(m.have.Routes, same)
	}
	return nil
}

func (m *memory) want(t *testing.T, lines ...string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(m.done, lines) {
		t.Errorf("done\n\t%s\nwant\n\t%s", strings.Join(m.done, "\n\t"), strings.Join(lines, "\n\t"))
	}
	m.done = nil
}

func open(t *testing.T, m *memory) *Keeper {
	t.Helper()
	k, err := Open(Options{Self: self, Network: network, Kernel: m})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A node starts, a link dies, a peer goes, and the node leaves.
func TestLife(t *testing.T) {
	m := newMemory(2)
	k := open(t, m)
	m.want(t, "address 10.99.0.1/32", "guard 10.99.0.0/24")
	step := func(routes ...Route) {
		t.Helper()
		k.Set(routes)
		if err := k.Sync(); err != nil {
			t.Error(err)
		}
	}
	step(way(2, 0), way(3, 0))
	m.want(t, "route 10.99.0.2/32 via 10.0.0.2 dev 2 src 10.99.0.1", "route 10.99.0.3/32 via 10.0.0.3 dev 2 src 10.99.0.1")
	step(way(2, 0), way(3, 0))
	m.want(t) // twice is once
	step(way(2, 1), way(3, 0))
	m.want(t, "route 10.99.0.2/32 via 10.0.1.2 dev 3 src 10.99.0.1")
	step(way(2, 1))
	m.want(t, "no route 10.99.0.3/32 metric 64")
	if s := k.Status(); s.Self != self || s.Holder != Interface || s.Err != "" || len(s.Routes) != 1 || s.Routes[0].Via != way(2, 1).Via {
		t.Errorf("%+v", s)
	}
	if err := k.Remove(); err != nil {
		t.Error(err)
	}
	m.want(t, "no route 10.99.0.2/32 metric 64", "no guard 10.99.0.0/24", "no address 10.99.0.1/32")
	k.Close()
	if !m.closed || m.have.Holder != "" || m.have.Guard || len(m.have.Routes) > 0 {
		t.Errorf("left: %+v", m.have)
	}
}

// What a run before this left is adopted, but for what is of another configuration.
func TestAdopted(t *testing.T) {
	m := newMemory(2)
	k := open(t, m)
	k.Set([]Route{way(2, 1), way(3, 0)})
	if err := k.Sync(); err != nil {
		t.Fatal(err)
	}
	old := netip.MustParsePrefix("10.98.0.1/32")
	m.have.Strange = []netip.Prefix{old}
	m.have.Routes = append(m.have.Routes, Installed{Dst: netip.MustParsePrefix("10.98.0.2/32"), Via: way(2, 0).Via, Src: old.Addr(), Link: 2, Metric: Metric})
	m.done = nil
	k = open(t, m)
	m.want(t, "no address 10.98.0.1/32")
	var got []string
	for _, r := range k.Adopted() {
		got = append(got, fmt.Sprint(r.To, " via ", r.Via))
	}
	if want := []string{"10.99.0.2 via 10.0.1.2", "10.99.0.3 via 10.0.0.3", "10.98.0.2 via 10.0.0.2"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	k.Set([]Route{way(2, 1), way(3, 0)})
	if err := k.Sync(); err != nil {
		t.Error(err)
	}
	m.want(t, "no route 10.98.0.2/32 metric 64")
}

// An address that another program has put somewhere is used, and left there.
func TestAddressOfAnother(t *testing.T) {
	m := newMemory(1)
	m.have.Holder = "vlan7"
	k := open(t, m)
	m.want(t, "guard 10.99.0.0/24")
	if err := k.Remove(); err != nil {
		t.Error(err)
	}
	m.want(t, "no guard 10.99.0.0/24")
}

// What cannot be done is said, and keeps nothing else from being done.
func TestFailures(t *testing.T) {
	boom := errors.New("boom")
	for _, kind := range []Kind{AddAddress, AddGuard} {
		m := newMemory(1)
		m.refuse[kind] = boom
		if _, err := Open(Options{Self: self, Network: network, Kernel: m}); !errors.Is(err, boom) || !m.closed {
			t.Errorf("%s: %v, closed %v", kind, err, m.closed)
		}
	}
	m := newMemory(1)
	m.unread = boom
	if _, err := Open(Options{Self: self, Network: network, Kernel: m}); !errors.Is(err, boom) {
		t.Error(err)
	}
	m = newMemory(1)
	k := open(t, m)
	k.Set([]Route{way(2, 1), way(3, 0)}) // link 1 is not there
	if err := k.Sync(); err == nil || !strings.Contains(k.Status().Err, "no route to 10.99.0.2: this node does not have its address 10.0.1.1") {
		t.Errorf("%v, %+v", err, k.Status())
	}
	if s := k.Status(); len(s.Routes) != 1 || s.Routes[0].To != way(3, 0).To {
		t.Errorf("%+v", s)
	}
	m.unread = boom
	if err := k.Sync(); !errors.Is(err, boom) || k.Status().Err != "boom" {
		t.Errorf("%v, %+v", err, k.Status())
	}
	if err := k.Remove(); !errors.Is(err, boom) {
		t.Error(err)
	}
	m.unread = nil
	m.refuse[DelGuard] = boom
	if err := k.Remove(); !errors.Is(err, boom) {
		t.Error(err)
	}
	if m.have.Holder != "" || len(m.have.Routes) > 0 {
		t.Errorf("left: %+v", m.have)
	}
}

// What others take away is put back within a second, and what is wanted comes at once.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(2)
		k := open(t, m)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- k.Run(ctx) }()
		k.Set([]Route{way(2, 0)})
		synctest.Wait()
		m.want(t, "address 10.99.0.1/32", "guard 10.99.0.0/24", "route 10.99.0.2/32 via 10.0.0.2 dev 2 src 10.99.0.1")
		m.edit(func() {
			m.have.Routes, m.have.Holder = nil, ""
			m.refuse[SetRoute] = errors.New("not now")
		})
		time.Sleep(lookEvery)
		synctest.Wait()
		m.want(t, "address 10.99.0.1/32")
		if k.Status().Err != "not now" {
			t.Errorf("%+v", k.Status())
		}
		m.edit(func() { delete(m.refuse, SetRoute) })
		time.Sleep(lookEvery)
		synctest.Wait()
		m.want(t, "route 10.99.0.2/32 via 10.0.0.2 dev 2 src 10.99.0.1")
		if k.Status().Err != "" {
			t.Errorf("%+v", k.Status())
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
