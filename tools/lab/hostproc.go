package lab

import "os/exec"

// StartOnHost starts a program on the host, inside the lab's network namespace: it has the
// host's addresses on the lab's networks (10.78.0.1 on the management's), and no
// other. The caller waits for it.
func (l *Lab) StartOnHost(c *exec.Cmd) error { return l.ns.do(c.Start) }
