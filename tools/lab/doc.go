// Package lab runs virtual nodes with real kernels on one machine, for tests and
// demonstrations: User-Mode Linux, or Debian's full kernel emulated by QEMU, so
// that neither KVM nor a module of the host's kernel is needed. A node has the
// kernel's DLM and GFS2, a shared disk, a disk of its own and real networks; it
// can die, hang, lose its network and be fenced, and the host knows when.
//
// # Use
//
//	func TestFailover(t *testing.T) {
//		l := lab.ForTest(t, lab.Config{
//			Nodes: 3,
//			Files: map[string]string{"/usr/local/sbin/quorated": bin}, // a static binary
//		}) // skips unless QUORATE_LAB=1; nodes are up; all is removed at the end
//		out, err := l.Node(1).Run(t.Context(), "dlm_tool ls")
//		...
//		died, err := l.Node(3).Kill(t.Context()) // host time of the death
//		ev, err := l.Collector.Wait(t.Context(), func(e lab.Ev) bool { return e.Event == "granted" })
//		t.Log("stall", ev.At.Sub(died))
//	}
//
// By hand: `go run ./tools/lab/cmd/lab up --nodes 3`, and `lab exec 1 uname -r` in
// another terminal. The user is root. The first run builds a root file system
// (Prepare says what it fetches); Check says what a machine lacks.
//
// Tests with kernels: QUORATE_LAB=1 go test ./tools/lab. QUORATE_LAB_KERNEL names
// other kernels than the default (see Kernels), QUORATE_LAB_CACHE the folder of
// built root file systems and kernels, QUORATE_LAB_KEEP a folder for the consoles
// of failed tests, QUORATE_LAB_PROGRAMS a folder with labnode and fence_lab built
// already (else `go build` makes them, so the checkout is needed).
//
// Programs are slow in User-Mode Linux: one costs 30 ms on a quiet machine, a
// Python agent 1.6 s, and everything several times that on a busy one. Prefer one
// script to many, Daemon to polling, and generous deadlines.
//
// # Kernels
//
// Each node may have another kernel: Config.Kernels, `lab up --kernel NAME,NAME`. One
// that is off may be given another of the lab's kernels: Node.SetKernel.
//
//	uml-6.1 uml-6.12 uml-7.2      package user-mode-linux of bookworm, trixie, sid
//	qemu-6.1 qemu-6.12 qemu-7.3   linux-image-amd64 of bookworm, trixie, trixie-backports
//
// The suites move on: Node.KernelVersion says what was fetched, and what the cache
// has it keeps. Packages are unpacked into the cache and not installed; only the
// emulator is a package of the host. The programs in nodes are the same with
// every kernel. User-Mode Linux boots in seconds and has 384 MiB; it lacks BPF's
// compiler, tracing, several processors and SOCK_DESTROY. The default is uml-7.2:
// up to 6.15 each system call of a node is several of ptrace on the host, which on a
// host where those are slow costs three times what seccomp does. An emulated node has all
// of a distribution's kernel, 900 MiB, takes a processor of the host to itself and
// half a minute to boot. Its time dilates when the host is busy.
//
// # A node
//
// Node i, from 1, is host node<i>. Its first interface vec0 is 10.77.0.(10+i) on
// the cluster network, vec1 is 10.78.0.(10+i) on the management network, and
// with Config.Links above 1 vec2 and on are 10.77.1.(10+i) and so forth; emulated
// nodes say eth0, eth1. The host is .1 everywhere. /dev/ubda is the shared disk and
// /dev/ubdb the node's own, mounted on /var/lib/quorate; it survives Reboot.
// Everything else is a Debian root under a layer in memory and is new at each
// boot: /usr/sbin/fence_redfish, dlm_tool, mkfs.gfs2, corosync and so on are there,
// and no daemon is started but udevd. Config.Files and Put add more. The modules dlm and gfs2 are loaded,
// /dev/misc/dlm* exist, configfs is mounted.
//
// # Nodes with systemd
//
// With Config.Systemd (`lab up --systemd`) process 1 is Debian's systemd, on a root
// of its own with fewer packages and Debian's udev, journal and ifupdown. labnode
// is a service there, and all verbs are the same. The root is kept from boot to
// boot: its writable layer is on the node's own disk, /var/lib/quorate is a folder in it,
// and what was installed, enabled and put into /etc stays. Config.Modules does not matter: modules are
// loaded as on any machine. The cluster networks are ifupdown's, and go down with
// the machine; the management network stays to the end. A node that reboots by
// itself is powered on again: see Node.WaitReboot. An emulated one is off then.
//
// # Death
//
// A node is all processes in its cgroup. Killing the main one would leave disk
// threads that go on writing. So Kill freezes the cgroup, which takes a few
// milliseconds, and nothing of the node runs any more when it returns; the
// frozen processes are killed afterwards. LastDeath has the times and a proof.
// Freeze without Kill is a hang. A node that panics, powers itself off or reboots
// is off afterwards.
//
// # Fencing
//
// Inside nodes, /usr/sbin/fence_lab (ip=10.78.0.1, plug=N) and Debian's
// fence_redfish (ip=10.78.0.1, username=lab, password=lab, ssl_insecure=1,
// systems_uri=/redfish/v1/Systems/N) drive the same power switch. StartBoards adds
// Debian's ipmi_sim for fence_ipmilan (ip=10.78.0.1, ipport=6230+N, lanplus=1,
// cipher=3, username and password lab). fence_lab's plug Na or Nb is one of two
// power supplies. Off is answered
// when the node's cgroup is frozen. Misbehave makes it fail, hang, be slow or
// lie; PowerLog has every action with the host's time.
//
// labnode, in every node, has small programs for tests: flock, append, verify,
// dlm (locks without a file system, over package dlmdev) and udp; see its
// documentation. What they tell goes to Lab.Collector.
//
// # Time
//
// A node's clock is seconds off the host's. Take all times of one story on the
// host: Kill and the fence devices return host times, and a Collector stamps
// datagrams from nodes on arrival. Never subtract a node's time from the host's.
//
// # Cuts
//
// Cut, CutOneWay, CutNode and CutLink drop traffic between nodes on the cluster
// networks, ClosePort and LowerMTU a part of it, Heal undoes them all. The host
// hears every node all the time, and the management network, with Exec and the
// fence devices, is never cut. Plug takes an emulated node's carrier on a link.
//
// # What is left
//
// Close removes processes, cgroups, the network namespace, images and logs. What
// a killed owner left is removed by the next New, or by Sweep.
package lab
