package liveness

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/ebpf/netdev"
	"github.com/quorate/quorate/membership"
)

var nativeEndian = binary.NativeEndian

// iface is an interface that has addresses of this node, or had.
type iface struct {
	index  int
	name   string
	links  []int           // of this node
	had    []netip.Addr    // own addresses, when it had any last
	missed membership.Mono // since when it has none; 0: it has
	device netdev.Device
	faults map[Mode]fault

	at      Mode // of att
	att     link.Link
	since   membership.Mono // when this daemon attached it, or took it over
	current bool            // it runs this daemon's program

	lost   int // how often it was found taken away
	lostAt membership.Mono
}

func (i *iface) mode() Mode {
	if i.att == nil {
		return None
	}
	return i.at
}

func (i *iface) closeFD() error {
	if i.att == nil {
		return nil
	}
	err := i.att.Close()
	i.att = nil
	return err
}

// adopt takes over the attachments that an earlier daemon has pinned.
func (r *Reflector) adopt() error {
	entries, err := os.ReadDir(r.pins.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		mode, index, ok := parseLink(e.Name())
		if !ok {
			continue
		}
		path := r.pins.link(mode, index)
		l, err := link.LoadPinnedLink(path, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if _, taken := r.ifaces[index]; taken || !attached(l, index) {
			if err := errors.Join(l.Close(), os.Remove(path)); err != nil {
				return err
			}
			continue
		}
		r.ifaces[index] = &iface{index: index, at: mode, att: l, since: boottime(), faults: map[Mode]fault{}}
	}
	return nil
}

// attached says whether a link is still on its interface: both can be taken away. Of one
// that was detached the kernel says interface 0 (net/core/dev.c, bpf_xdp_link_fill_link_info);
// that it could not be asked, for want of memory say, is no such answer.
func attached(l link.Link, index int) bool {
	info, err := l.Info()
	if err != nil {
		return true
	}
	x := info.XDP()
	return x != nil && int(x.Ifindex) == index
}

// place is where an own address is.
type place struct {
	index  int
	name   string
	parent string         // the interface at the bottom, of one that is made of another's frames
	kind   string         // as rtnetlink has it
	prog   ebpf.ProgramID // the XDP program there; 0: none
}

// manifold are kinds of interfaces, and drivers, that have others run a driver's program: its frames come
// in by those (drivers/net/bonding/bond_main.c, bond_xdp_set; hyperv/netvsc_bpf.c, netvsc_vf_setxdp).
var manifold = []string{"bond", "hv_netvsc"}

// home is where frames to an own address come to the program, as it is attached now.
func (p place) home(m Mode, driver string) home {
	h := home{uint32(p.index), m == Generic}
	if m == Native && (slices.Contains(manifold, p.kind) || slices.Contains(manifold, driver)) {
		h.ifindex = 0
	}
	return h
}

// stacked are kinds of interfaces that are made of another one's frames.
var stacked = []string{"vlan", "macvlan", "ipvlan", "macsec"}

// bottom names the interface that one is made of in the end; empty: it is made of none.
func (r *Reflector) bottom(l netlink.Link) (name string, err error) {
	for slices.Contains(stacked, l.Type()) && l.Attrs().NetNsID < 0 && l.Attrs().ParentIndex > 0 {
		index := l.Attrs().ParentIndex
		if l, err = r.opt.linkByIndex(index); gone(err) {
			return name, nil
		}
		if err != nil {
			return "", fmt.Errorf("interface %d: %w", index, err)
		}
		name = l.Attrs().Name
	}
	return name, nil
}

// gone says of an error that there is no such interface, and not that it could not be asked for.
func gone(err error) bool {
	var no netlink.LinkNotFoundError
	return errors.As(err, &no) || errors.Is(err, unix.ENODEV)
}

// places finds the interfaces of addresses; one that none has is left out.
func (r *Reflector) places(addrs []netip.Addr) (map[netip.Addr]place, error) {
	all, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("addresses of this node: %w", err)
	}
	out := map[netip.Addr]place{}
	for _, a := range all {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		for _, want := range addrs {
			if want.Unmap().WithZone("") != ip.Unmap() {
				continue
			}
			l, err := r.opt.linkByIndex(a.LinkIndex)
			if gone(err) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("interface %d: %w", a.LinkIndex, err)
			}
			x := l.Attrs()
			if z := want.Zone(); z != "" && z != x.Name && z != fmt.Sprint(x.Index) {
				continue
			}
			parent, err := r.bottom(l)
			if err != nil {
				return nil, err
			}
			out[want] = place{index: x.Index, name: x.Name, parent: parent, kind: l.Type(), prog: programOn(x)}
		}
	}
	return out, nil
}

func programOn(a *netlink.LinkAttrs) ebpf.ProgramID {
	if a.Xdp == nil || !a.Xdp.Attached {
		return 0
	}
	return ebpf.ProgramID(a.Xdp.ProgId)
}

func (r *Reflector) onInterface(index int) (ebpf.ProgramID, error) {
	l, err := r.opt.linkByIndex(index)
	if err != nil {
		return 0, fmt.Errorf("interface %d: %w", index, err)
	}
	return programOn(l.Attrs()), nil
}

// Maintain brings the program to where it belongs, and back where it was lost. It may be
// called at any time; it does nothing before Configure.
func (r *Reflector) Maintain() error {
	r.tending.Lock()
	defer r.tending.Unlock()
	r.mu.Lock()
	err, cfg := r.open(), r.cfg
	var peers []PeerState
	if err == nil {
		peers, err = r.peers()
	}
	r.mu.Unlock()
	if err != nil || cfg.Self == 0 {
		return err
	}
	at, err := r.places(cfg.Links)
	if err != nil {
		return fmt.Errorf("reflector: %w", err)
	}
	errs := []error{r.repin(), r.place(cfg.Links, at)}
	links := make([]LinkStatus, len(cfg.Links))
	for l := range links {
		links[l] = LinkStatus{Link: l, Why: "no interface has the address"}
	}
	homes := map[[16]byte]home{}
	for _, a := range cfg.Links {
		homes[addrValue(a)] = home{ifindex: nowhere}
	}
	for _, index := range slices.Sorted(maps.Keys(r.ifaces)) {
		i := r.ifaces[index]
		if len(i.links) == 0 {
			continue
		}
		p := at[cfg.Links[i.links[0]]]
		mode, why := r.tend(i, p.prog, peers)
		var since membership.Mono
		if mode != None {
			since = i.since
		}
		for _, l := range i.links {
			links[l] = LinkStatus{Link: l, Since: since, Interface: i.name, Parent: p.parent, Mode: mode, Why: why, Driver: i.device.Driver, XDP: i.device.XDP.String(), Lost: i.lost, LostAt: i.lostAt}
			homes[addrValue(cfg.Links[l])] = p.home(mode, i.device.Driver)
		}
	}
	r.mu.Lock()
	told := changes(r.links, links)
	r.links, r.homes = links, homes
	errs = append(errs, r.obj.configure(r.cfg, r.learnt, homes)) // all maps: somebody may have changed them
	r.keepEpoch()
	r.mu.Unlock()
	for _, c := range told {
		if r.opt.Tell != nil {
			r.opt.Tell(c)
		}
	}
	if err := errors.Join(append(errs, r.sweep())...); err != nil {
		return fmt.Errorf("reflector: %w", err)
	}
	return nil
}

// place brings the interfaces up to date. One that has no address of this node any
// more, or is gone, is left in the end.
func (r *Reflector) place(links []netip.Addr, at map[netip.Addr]place) error {
	for _, i := range r.ifaces {
		i.links = nil
	}
	for l, a := range links {
		p, ok := at[a]
		if !ok {
			continue
		}
		i := r.ifaces[p.index]
		if i == nil {
			i = &iface{index: p.index, faults: map[Mode]fault{}}
			r.ifaces[p.index] = i
		}
		if i.name != p.name {
			i.name = p.name
			r.ask(i)
		}
		if len(i.links) == 0 {
			if i.missed != 0 {
				i.since = boottime() // nobody could hear it meanwhile
			}
			i.had, i.missed = nil, 0
		}
		i.links, i.had = append(i.links, l), append(i.had, a)
	}
	var errs []error
	for _, i := range r.ifaces {
		if len(i.links) == 0 {
			errs = append(errs, r.leave(i, at, boottime()))
		}
	}
	return errors.Join(errs...)
}

// absence is for how long an interface may have no own address until it is left: to detach
// from a driver may take its link down for a moment, and who configures a network takes
// addresses away and gives them back.
const absence = 10 * time.Second

// leave looks at an interface that has no own address. It is left at once when its
// addresses are elsewhere: a bond takes no interface that has a program. What is known of
// its driver stays until it is gone.
func (r *Reflector) leave(i *iface, at map[netip.Addr]place, now membership.Mono) error {
	if i.missed == 0 {
		i.missed = now
	}
	_, err := r.opt.linkByIndex(i.index)
	if gone(err) {
		delete(r.ifaces, i.index)
		return r.detach(i)
	}
	if err != nil {
		return fmt.Errorf("interface %d: %w", i.index, err)
	}
	missing := func(a netip.Addr) bool { _, found := at[a]; return !found }
	if moved := len(i.had) > 0 && !slices.ContainsFunc(i.had, missing); !moved && now.Sub(i.missed) < absence {
		return nil
	}
	return r.detach(i)
}

// ask asks for its driver. What was tried with another one says nothing; that it could
// not be asked for says nothing of what was tried.
func (r *Reflector) ask(i *iface) {
	d := netdev.Ask(i.index, i.name)
	if d == i.device {
		return
	}
	if was := i.device.Driver; was != "" && d.Driver != "" && was != d.Driver {
		clear(i.faults)
	}
	i.device = d
	r.log.Debug("an interface's driver", "interface", i.name, "driver", d.Driver, "xdp", d.XDP.String(), "why", d.Why)
}

// tend looks at one interface, on which an XDP program was found or not, and does what
// is due there. It says what answers then, and why that is not what was wanted.
func (r *Reflector) tend(i *iface, prog ebpf.ProgramID, peers []PeerState) (Mode, string) {
	now := boottime()
	if i.att != nil && !attached(i.att, i.index) {
		i.lost, i.lostAt = i.lost+1, now
		r.log.Warn("the program that answers probes was taken from its interface; attaching it again", "interface", i.name, "mode", string(i.at))
		r.ask(i) // one that was made anew may have its number
		err := r.detach(i)
		if err == nil {
			prog, err = r.onInterface(i.index) // what was found may have been ours
		}
		if err != nil {
			return None, err.Error()
		}
	}
	s := seen{ours: i.mode(), since: i.since, faults: i.faults}
	if s.ours == None && prog != 0 {
		s.foreign = describe(prog)
	}
	for _, p := range peers {
		if slices.Contains(i.links, p.Link) {
			s.peers = append(s.peers, p)
		}
	}
	if who, lost := unheard(s, now); lost && s.ours != None {
		i.faults[s.ours] = fault{why: fmt.Sprintf("its answers do not arrive at node %d", who), until: again(s.ours, now)}
	}
	for { // each mode is at fault once
		goal, why := choose(r.opt.Want, s, now)
		err := r.bring(i, goal, now)
		if err == nil {
			return i.mode(), why
		}
		if _, bad := i.faults[goal]; !bad {
			return i.mode(), strings.TrimPrefix(why+"; "+err.Error(), "; ")
		}
		s.ours = i.mode()
	}
}

// describe names a program of somebody else's.
func describe(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return fmt.Sprintf("id %d", id)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return fmt.Sprintf("id %d", id)
	}
	return fmt.Sprintf("id %d, name %q", id, info.Name)
}

// bring makes goal the mode of an interface. That it cannot be attached is a fault of
// the goal; that it cannot be replaced is none, since an older one answers.
func (r *Reflector) bring(i *iface, goal Mode, now membership.Mono) error {
	delete(i.faults, goal)
	if i.mode() == goal {
		return r.update(i)
	}
	if err := r.detach(i); err != nil || goal == None {
		return err
	}
	err := r.attach(i, goal)
	if err != nil {
		f := fault{why: err.Error(), until: now.Add(retry)}
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
			f.until = now + 1 // another program came in between: the next look finds it
		}
		i.faults[goal] = f
		return err
	}
	i.since, i.current = now, true
	r.log.Info("this kernel answers probes", "interface", i.name, "mode", string(goal))
	return nil
}

// update has the attachment of an earlier daemon run this one's program: no frame
// comes in between.
func (r *Reflector) update(i *iface) error {
	if i.att == nil || i.current {
		return nil
	}
	if err := i.att.Update(r.obj.program()); err != nil {
		return fmt.Errorf("replacing the program on %s: %w", i.name, err)
	}
	i.current = true
	return nil
}

func (r *Reflector) attach(i *iface, m Mode) error {
	if m == Native {
		r.ask(i) // its features may have been changed
	}
	if m == Native && i.device.XDP == netdev.No && r.opt.Want != WantNative {
		whose := i.name
		if d := i.device.Driver; d != "" {
			whose += ", " + d + ","
		}
		return fmt.Errorf("the driver of %s does not do XDP, as the kernel's netdev family says", whose)
	}
	flags := link.XDPDriverMode
	if m == Generic {
		flags = link.XDPGenericMode
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: r.obj.program(), Interface: i.index, Flags: flags})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("not possible on %s: %w", i.name, err)
	}
	if err != nil {
		return fmt.Errorf("attaching to %s: %w", i.name, err)
	}
	if err := l.Pin(r.pins.link(m, i.index)); err != nil {
		return errors.Join(fmt.Errorf("pinning the attachment to %s: %w", i.name, err), l.Close())
	}
	i.at, i.att = m, l
	return nil
}

// detach takes the program from an interface. The pin may be gone: somebody has
// cleared up.
func (r *Reflector) detach(i *iface) error {
	if i.att == nil {
		return nil
	}
	// The kernel takes it away some time after the last one has closed it; who attaches
	// next must not find it.
	derr := i.att.Detach()
	err := os.Remove(r.pins.link(i.at, i.index))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	i.current = false
	return errors.Join(derr, err, i.closeFD())
}

// detachPinned takes away all that is attached by pins of a folder.
func detachPinned(p pins) error {
	entries, err := os.ReadDir(p.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if _, _, ok := parseLink(e.Name()); !ok {
			continue
		}
		l, err := link.LoadPinnedLink(filepath.Join(p.dir, e.Name()), nil)
		if err == nil {
			err = errors.Join(l.Detach(), l.Close())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// repin makes the pins again that somebody has removed: without them nothing answers any
// more when the daemon has ended, and the next one knows nothing of this one's answers.
func (r *Reflector) repin() error {
	again := map[string]pinned{}
	for name, m := range r.obj.maps() {
		again[filepath.Join(r.pins.maps(), name)] = m
	}
	for _, i := range r.ifaces {
		if i.att != nil && attached(i.att, i.index) {
			again[r.pins.link(i.at, i.index)] = i.att
		}
	}
	maps.DeleteFunc(again, func(path string, _ pinned) bool {
		_, err := os.Lstat(path)
		return !errors.Is(err, os.ErrNotExist)
	})
	if len(again) == 0 {
		return nil
	}
	errs := []error{r.pins.make()}
	for path, p := range again {
		errs = append(errs, p.Unpin(), p.Pin(path)) // what it was pinned at is no more
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("pins were removed: %w", err)
	}
	r.log.Warn("pins of the program that answers probes were removed; they are made again", "folder", r.pins.dir, "pins", len(again))
	return nil
}

// pinned is what can be.
type pinned interface {
	Pin(path string) error
	Unpin() error
}

// sweep removes maps of other layouts once nothing uses them any more.
func (r *Reflector) sweep() error {
	for _, i := range r.ifaces {
		if i.att != nil && !i.current {
			return nil
		}
	}
	old, err := r.pins.oldMaps()
	errs := []error{err}
	for _, dir := range old {
		errs = append(errs, removeAll(dir))
	}
	return errors.Join(errs...)
}
