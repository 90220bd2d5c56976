package dlm

import (
	"fmt"
	"strconv"
	"strings"
)

// maxUevent is the kernel's limit of a uevent's environment (UEVENT_BUFFER_SIZE)
// with the header before it.
const maxUevent = 4096

// Uevent is a uevent of the kernel.
type Uevent struct {
	Action  string
	Devpath string
	Env     map[string]string
}

// ParseUevent reads a datagram of the kernel: "action@devpath", then key=value,
// each with a NUL at its end. The environment is what counts; the header only
// has to agree with it.
func ParseUevent(b []byte) (Uevent, error) {
	if len(b) == 0 || len(b) > maxUevent || b[len(b)-1] != 0 {
		return Uevent{}, fmt.Errorf("%w: uevent of %d bytes without an end", ErrParse, len(b))
	}
	parts := strings.Split(string(b[:len(b)-1]), "\x00")
	u := Uevent{Env: make(map[string]string, len(parts))}
	for _, p := range parts[1:] {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return Uevent{}, fmt.Errorf("%w: uevent variable %q", ErrParse, p)
		}
		if _, twice := u.Env[k]; twice && k != "LOCKSPACE" {
			continue
		}
		u.Env[k] = v // the subsystem's own variables come after those of the caller
	}
	u.Action, u.Devpath = u.Env["ACTION"], u.Env["DEVPATH"]
	if parts[0] != u.Action+"@"+u.Devpath || u.Action == "" {
		return Uevent{}, fmt.Errorf("%w: uevent header %q", ErrParse, parts[0])
	}
	return u, nil
}

// event is what the uevent means to us; nil if nothing.
func (u Uevent) event() Event {
	switch u.Env["SUBSYSTEM"] {
	case "dlm":
		return u.lockspaceEvent()
	case "gfs2":
		return u.gfs2Event()
	}
	return nil
}

func (u Uevent) lockspaceEvent() Event {
	ls, ok := u.Env["LOCKSPACE"]
	if !ok || ls == "" {
		return nil
	}
	switch u.Action {
	case "add":
		return Added{Lockspace: ls}
	case "online":
		return Online{Lockspace: ls}
	case "offline":
		return Offline{Lockspace: ls, ReleaseRecover: u.Env["RELEASE_RECOVER"] == "1"}
	case "remove":
		return Removed{Lockspace: ls}
	}
	return nil
}

func (u Uevent) gfs2Event() Event {
	table := u.Env["LOCKTABLE"]
	if table == "" {
		table = u.Devpath[strings.LastIndexByte(u.Devpath, '/')+1:]
	}
	switch u.Action {
	case "add":
		return Mounting{Table: table}
	case "online":
		return Mounted{Table: table, JID: number(u.Env["JOURNALID"])}
	case "offline":
		return Withdrawn{Table: table}
	case "remove":
		return Unmounted{Table: table}
	case "change":
		if r, ok := u.Env["RECOVERY"]; ok {
			return Journal{Table: table, JID: number(u.Env["JID"]), OK: r == "Done"}
		}
		if u.Env["FIRSTMOUNT"] == "Done" {
			return FirstMount{Table: table}
		}
	}
	return nil
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}
