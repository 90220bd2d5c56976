package configfstest

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/quorate/quorate/configfs"
)

// comm is one entry of comms.
type comm struct {
	node  uint32 // 0 until known
	seq   uint32
	addrs []netip.Addr
	local bool
	mark  uint32
}

// space is one lockspace's configuration.
type space struct {
	members map[string]*member // by directory
	gone    []Gone
}

type member struct {
	node    uint32
	seq     uint32 // the comm's when the member was made
	weight  int
	recover bool
	fresh   bool // not yet seen by a start
}

// Member is one node of a lockspace as the kernel sees it at a start.
type Member struct {
	Node   uint32
	Seq    uint32 // of the node's comm
	Weight int
	New    bool // made since the last start
}

// Gone is one node removed since the last start.
type Gone struct {
	Node    uint32
	Recover bool
}

func defaults() map[string]string {
	return map[string]string{
		"tcp_port": "21064", "buffer_size": "4096", "rsbtbl_size": "1024", "recover_timer": "5",
		"toss_secs": "10", "scan_secs": "5", "log_debug": "0", "log_info": "1", "protocol": "0",
		"mark": "0", "new_rsb_count": "128", "recover_callbacks": "0", "cluster_name": "",
	}
}

// limits are the lowest and highest values of the numbers.
var limits = map[string][2]uint64{
	"tcp_port": {1, 65535}, "buffer_size": {4096, 1 << 31}, "rsbtbl_size": {1, 1 << 31},
	"recover_timer": {1, 1 << 31}, "toss_secs": {1, 1 << 31}, "scan_secs": {1, 1 << 31}, "protocol": {0, 1},
}

func (f *Fake) makeCluster(name string) (*inode, error) {
	if len(f.root.kids["dlm"].kids) > 0 {
		return nil, syscall.EBUSY // a kernel would lose both
	}
	d := &inode{attrs: map[string]*attr{}, kids: map[string]*inode{}}
	for n := range f.globals {
		d.attrs[n] = &attr{
			show:  func() string { return f.globals[n] + "\n" },
			store: func(v string) error { return f.storeGlobal(n, v) },
		}
	}
	d.kids["comms"] = &inode{kids: map[string]*inode{}, fixed: true, make: f.makeComm}
	d.kids["spaces"] = &inode{kids: map[string]*inode{}, fixed: true, make: f.makeSpace}
	return d, nil
}

func (f *Fake) storeGlobal(name, v string) error {
	if name == "cluster_name" {
		f.globals[name] = v[:min(len(v), 63)] // a newline is kept
		return nil
	}
	l, ok := limits[name]
	if !ok {
		l = [2]uint64{0, 1<<32 - 1}
	}
	n, err := number(v)
	if err != nil {
		return err
	}
	if n > l[1] && name == "tcp_port" {
		return syscall.ERANGE
	}
	if n < l[0] || n > l[1] {
		return syscall.EINVAL
	}
	f.globals[name] = strconv.FormatUint(n, 10)
	return nil
}

// number parses as kstrtouint does.
func number(v string) (uint64, error) {
	n, err := strconv.ParseUint(strings.TrimSuffix(v, "\n"), 0, 64)
	if err != nil {
		return 0, syscall.EINVAL
	}
	return n, nil
}

// dirNode is the node that a new directory stands for: its name, or nobody yet.
func (f *Fake) dirNode(name string) (uint32, error) {
	if !f.kernel.NumericDirs {
		return 0, nil
	}
	n, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return 0, syscall.EINVAL
	}
	return uint32(n), nil
}

// nodeIDAttr shows -1 until the node is known; kernels that take it from the
// name accept a write and ignore it.
func (f *Fake) nodeIDAttr(node *uint32, set func()) *attr {
	return &attr{
		show: func() string {
			if *node == 0 {
				return "-1\n"
			}
			return fmt.Sprintf("%d\n", *node)
		},
		store: func(v string) error {
			n, err := number(v)
			if err != nil || f.kernel.NumericDirs {
				return err
			}
			*node = uint32(n)
			set()
			return nil
		},
	}
}

func (f *Fake) makeComm(name string) (*inode, error) {
	node, err := f.dirNode(name)
	if err != nil {
		return nil, err
	}
	f.seq++
	c := &comm{node: node, seq: f.seq}
	file := func() { f.comms[c.node] = c }
	if node != 0 {
		file()
	}
	return &inode{
		attrs: map[string]*attr{
			"nodeid":    f.nodeIDAttr(&c.node, file),
			"addr":      {store: func(v string) error { return f.storeAddr(c, v) }},
			"addr_list": {show: c.addrList},
			"local": {
				show:  func() string { return map[bool]string{true: "1\n", false: "0\n"}[c.local] },
				store: func(v string) error { return f.storeLocal(c, v) },
			},
			"mark": {
				show:  func() string { return fmt.Sprintf("%d\n", c.mark) },
				store: func(v string) error { return storeMark(c, v) },
			},
		},
		drop: func() error {
			if f.comms[c.node] == c {
				delete(f.comms, c.node)
			}
			if c.local && f.local == c.node {
				f.local = 0
			}
			return nil
		},
	}, nil
}

func (f *Fake) storeAddr(c *comm, v string) error {
	limit := 3
	if f.kernel.NumericDirs {
		limit = 8
	}
	a, err := configfs.ParseSockaddr([]byte(v))
	switch {
	case len(v) != 128, err != nil:
		return syscall.EINVAL
	case c.node == 0:
		return syscall.EINVAL // a kernel files it under node -1
	case slices.Contains(c.addrs, a):
		return syscall.EEXIST
	case len(c.addrs) >= limit:
		return syscall.ENOSPC
	}
	c.addrs = append(c.addrs, a)
	return nil
}

func (c *comm) addrList() string {
	var b strings.Builder
	for _, a := range c.addrs {
		if a.Is4() {
			fmt.Fprintf(&b, "AF_INET\t%s\n", a)
			continue
		}
		fmt.Fprintf(&b, "AF_INET6\t%s\n", a.WithZone("").StringExpanded())
	}
	return b.String()
}

func (f *Fake) storeLocal(c *comm, v string) error {
	n, err := number(v)
	if err != nil {
		return err
	}
	c.local = n != 0
	if c.local && f.local == 0 {
		f.local = c.node
	}
	return nil
}

func storeMark(c *comm, v string) error {
	n, err := number(v)
	if err != nil {
		return err
	}
	if len(c.addrs) == 0 {
		return syscall.ENOENT
	}
	c.mark = uint32(n)
	return nil
}

func (f *Fake) makeSpace(name string) (*inode, error) {
	s := &space{members: map[string]*member{}}
	f.spaces[name] = s
	nodes := &inode{kids: map[string]*inode{}, fixed: true, make: func(n string) (*inode, error) { return f.makeMember(s, n) }}
	return &inode{
		kids: map[string]*inode{"nodes": nodes},
		drop: func() error { delete(f.spaces, name); return nil },
	}, nil
}

func (f *Fake) makeMember(s *space, name string) (*inode, error) {
	node, err := f.dirNode(name)
	if err != nil {
		return nil, err
	}
	m := &member{node: node, weight: 1, fresh: true}
	note := func() {
		if c := f.comms[m.node]; c != nil {
			m.seq = c.seq
		}
	}
	note()
	s.members[name] = m
	d := &inode{
		attrs: map[string]*attr{
			"nodeid": f.nodeIDAttr(&m.node, note),
			"weight": {
				show:  func() string { return fmt.Sprintf("%d\n", m.weight) },
				store: func(v string) error { return storeWeight(m, v) },
			},
		},
		drop: func() error {
			delete(s.members, name)
			s.gone = append(s.gone, Gone{Node: m.node, Recover: m.recover})
			return nil
		},
	}
	if f.kernel.ReleaseRecover {
		d.attrs["release_recover"] = &attr{
			show:  func() string { return map[bool]string{true: "1\n", false: "0\n"}[m.recover] },
			store: func(v string) error { n, err := number(v); m.recover = n != 0; return err },
		}
	}
	return d, nil
}

func storeWeight(m *member, v string) error {
	n, err := number(v)
	if err != nil {
		return err
	}
	m.weight = int(n)
	return nil
}

// Sample is what control=1 does: it takes a lockspace's members and, where the
// kernel keeps them, the entries removed since the last start; both then count
// as seen. It reports what a kernel would only log.
func (f *Fake) Sample(ls string) ([]Member, []Gone, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.spaces[ls]
	if s == nil || len(s.members) == 0 {
		return nil, nil, fmt.Errorf("lockspace %s: start without members", ls)
	}
	var out []Member
	for name, m := range s.members {
		c := f.comms[m.node]
		switch {
		case m.node == 0:
			return nil, nil, fmt.Errorf("lockspace %s: member %s has no node id", ls, name)
		case c == nil || m.seq == 0:
			return nil, nil, fmt.Errorf("lockspace %s: member %d without a comm", ls, m.node)
		case len(c.addrs) == 0:
			return nil, nil, fmt.Errorf("lockspace %s: member %d without an address", ls, m.node)
		}
		out = append(out, Member{Node: m.node, Seq: m.seq, Weight: m.weight, New: m.fresh})
		m.fresh = false
	}
	slices.SortFunc(out, func(a, b Member) int { return int(a.Node) - int(b.Node) })
	gone := s.gone
	s.gone = nil
	return out, gone, nil
}

// Comm is the sequence number of a node's comm; 0 if it has none.
func (f *Fake) Comm(node uint32) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.comms[node]; c != nil {
		return c.seq
	}
	return 0
}

// Local is the node of the local comm; 0 if there is none.
func (f *Fake) Local() uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.local
}
