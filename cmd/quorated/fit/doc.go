// Package fit says whether a node could work by the times of profile lan: whether the machine
// is one of its own, with two links or more, on each of which its kernel answers probes.
//
// It promises a reason where it says no, and to say no where it cannot tell. It decides
// nothing: times are agreed on, and the same on all nodes.
//
// Guests of a hypervisor may stand still for longer than dead_after while they are migrated or
// snapshotted, and containers are put where others are. A guest is known by the processor's
// flag "hypervisor" (x86), by what the firmware calls the machine (/sys/class/dmi), or by its
// device tree; a kernel that is a process (User-Mode Linux) by /proc/cpuinfo.
package fit
