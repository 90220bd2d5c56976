// Package configfstest is a DLM configfs tree in memory that has the kernel's
// manners, and the contract that it and a real kernel both keep.
//
// The fake behaves as fs/dlm/config.c does: mkdir makes the attribute files,
// rmdir of an item removes them, rmdir of a space with nodes is ENOTEMPTY, of a
// default group EPERM, addr takes exactly 128 bytes. It also refuses what the
// kernel swallows and regrets later: an address before the node id, a member
// without a comm, two clusters.
package configfstest
