// Command bench measures what a cluster's members see: it runs real daemons, each
// in a network namespace of its own, on one machine and under one clock.
//
//	bench [-nodes 3,5,8] [-profile lan] [-kills 10] [-idle 20s] [-fsyncs=true] [-daemon bin/quorated] [-out out/bench/view.json]
//
// For each number of nodes, in this order: the cluster forms; what an idle daemon
// costs is read from /proc and from the counters of its link; nodes die, one after the
// other, each of them back in the cluster before the next; a death and a join are
// watched with strace, which counts the daemons' fsyncs.
//
// A death is silent. The victim's port on the bridge stops forwarding in both
// directions, by one netlink message, before anything else happens; only then is
// its daemon killed. No FIN, RST or ICMP message and no change of a carrier reaches
// a peer: what is left is silence, as from a machine without power. A node that
// comes back does so in a new namespace, so that no socket of its former life is
// left, with the state on its disk.
//
// The time runs from before that message to the moment at which a program outside
// of the daemons, bench, has read from the last survivor's control socket the view that
// all survivors agree on.
//
// bench and strace have real-time priority below the daemons' own, so that what is measured
// is the daemons and not who waits for the CPU beside them. A window in which fsyncs are
// counted holds one view change; if more happened it is done again.
//
// The namespaces have no names: they are held by threads and descriptors of bench
// alone, and the daemons die with it. Nothing is left behind however bench ends,
// except its temporary directory when it is killed with SIGKILL. The machine's own
// network is not touched.
//
// # Beside corosync
//
//	bench liveness [-systems quorate,corosync] [-nodes 3,8,16] [-kills 30] [-corosync-kills 5] [-idle 10s] [-budget 20m] [-out out/bench/liveness.json]
//	bench soak [-minutes 10] [-nodes 3] [-systems quorate/lan,corosync/safe] [-faults hogs,loss,garbage,stop,all] [-seed 1] [-out out/bench/soak.json]
//
// bench liveness has quorate's profiles fast and lan and three settings of corosync die
// in the same silent way on the same Fabric, and says which of the limits that quorate
// has to keep it keeps. What does not fit into the budget is left out, is told, and
// fails the run. corosync's view is the one that its quorum service logs when it tells
// its clients. A daemon that starts again reads another boot id, as after a reboot.
//
// bench soak brings faults over quorate and corosync at the same time of which nobody
// dies, and counts who is convicted all the same.
//
// # Other
//
// bench recovery is another benchmark, on virtual nodes with real kernels: see
// package recovery.
//
// Another system can be measured beside these: it implements System on the same
// Fabric.
package main
