package netdev

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Answer is what is known of a driver.
type Answer int

// The answers.
const (
	Unknown Answer = iota
	No
	Yes
)

func (a Answer) String() string { return [...]string{"unknown", "no", "yes"}[a] }

// Device is an interface's.
type Device struct {
	Driver string // empty: it has none, or does not say
	XDP    Answer // its driver runs XDP programs
	Why    string // it is not known
}

// What is used of the family (linux/netdev.h).
const (
	family = "netdev"

	cmdDevGet       = 1
	attrIfindex     = 1
	attrXDPFeatures = 3
	featureBasic    = 1 << 0 // XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX
)

// patience is for an answer of the kernel, which has to wait for whoever changes interfaces.
const patience = time.Second

// Ask asks about an interface, in this thread's network namespace.
func Ask(index int, name string) Device {
	is, err := features(index)
	return judge(driver(name), is, err)
}

func judge(driver string, features uint64, err error) Device {
	d := Device{Driver: driver}
	switch {
	case errors.Is(err, os.ErrNotExist):
		d.Why = "this kernel has no netdev family, which Linux has since 6.3"
	case err != nil:
		d.Why = err.Error()
	case features&featureBasic != 0:
		d.XDP = Yes
	default:
		d.XDP = No
	}
	return d
}

// driver is empty where nothing is said.
func driver(name string) string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer func() { _ = unix.Close(fd) }()
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, name)
	if err != nil {
		return ""
	}
	return unix.ByteSliceToString(info.Driver[:])
}

func features(index int) (uint64, error) {
	c, err := genetlink.Dial(nil)
	if err != nil {
		return 0, fmt.Errorf("generic netlink: %w", err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, fmt.Errorf("generic netlink: %w", err)
	}
	f, err := c.GetFamily(family)
	if err != nil {
		return 0, fmt.Errorf("netdev family: %w", err)
	}
	attrs := netlink.NewAttributeEncoder()
	attrs.Uint32(attrIfindex, uint32(index))
	data, err := attrs.Encode()
	if err != nil {
		return 0, fmt.Errorf("netdev family: %w", err)
	}
	msgs, err := c.Execute(genetlink.Message{Header: genetlink.Header{Command: cmdDevGet, Version: f.Version}, Data: data}, f.ID, netlink.Request)
	if err != nil {
		return 0, fmt.Errorf("netdev family: %w", err)
	}
	for _, m := range msgs {
		if of, is, err := parse(m.Data); err == nil && of == index {
			return is, nil
		}
	}
	return 0, fmt.Errorf("netdev family: %d messages say nothing of interface %d", len(msgs), index)
}

var errShort = errors.New("no interface, or no features")

// parse reads the attributes of an answer.
func parse(data []byte) (index int, features uint64, err error) {
	attrs, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return 0, 0, err
	}
	said := false
	for attrs.Next() {
		switch attrs.Type() {
		case attrIfindex:
			index = int(int32(attrs.Uint32()))
		case attrXDPFeatures:
			features, said = attrs.Uint64(), true
		}
	}
	if err := attrs.Err(); err != nil {
		return 0, 0, err
	}
	if index <= 0 || !said {
		return 0, 0, errShort
	}
	return index, features, nil
}
