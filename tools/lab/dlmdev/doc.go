// Package dlmdev takes locks of the kernel's DLM from user space, over the misc
// devices that libdlm uses too: dlm-control creates and releases lockspaces,
// dlm_<lockspace> takes, converts and releases locks. It is for programs that
// test a cluster; it needs no C library and no udev, and makes the device nodes
// that it opens.
//
// The order of things: Create joins a lockspace, and returns when the cluster's
// daemon has said that the node is a member; Open opens its device; locks belong
// to the open device and go when it is closed, or its process ends; Release
// leaves the lockspace, when no process of the node has it open.
//
// The formats are those of include/uapi/linux/dlm_device.h, version 6.0, on a
// machine of 64 bits.
package dlmdev
