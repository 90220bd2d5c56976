// Package recovery measures quorate beside corosync with dlm_controld, the
// incumbent, on the same virtual nodes with real kernels: what a death, a planned
// leave and the join of a lockspace cost those who use GFS2 on the other nodes.
//
//	bench recovery [-rounds 5] [-nodes 3] [-profiles lan,safe] [-settings default,safe] [-kernel uml-6.1] [-out out/bench/recovery.json]
//
// The systems take turns: each round runs every one of them once, on nodes that
// have just been booted and have nothing on their disks, and in each round another
// node is the one that leaves, joins and dies. In this order:
//
//   - the cluster forms, and every node mounts the file system;
//   - for three seconds nothing happens;
//   - one node unmounts and leaves, and its daemons end;
//   - its daemons start again, it is a member, and it mounts;
//   - it holds a flock that all others wait for, and dies.
//
// # What is measured, and with what
//
// All times are the host's: of the orders that it gives, and of datagrams from the
// nodes when they arrive. The same instruments are used for every system. labnode
// flock tells when a survivor has the dead node's lock. labnode kmsg tells what the
// kernel's log says, and the DLM says there when its recovery begins, which is when
// control=1 was written, and when it is done; both come up to one tick of the
// node's clock late, 10 ms in User-Mode Linux. labnode cycle takes one new lock
// after the other, 50 a second, on every node but the one that leaves and joins: the
// longest time between two of them is how long a program there stood still. The
// power switch has its own record of when it was asked.
//
// # Fencing
//
// It is on, and the same for all: the lab's fence device through the agent
// fence_lab, which is instant but for the time that a node needs to run the agent.
// dlm_controld is told not to wait after a join (post_join_delay=0).
//
// # What it is not
//
// A node of the lab is not a machine of a plant: its clock ticks 100 times a
// second, a program takes 30 ms to start, and all nodes share the host's CPUs. The
// figures are for comparing.
package recovery
