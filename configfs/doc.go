// Package configfs is a typed view of the DLM's configfs tree: read it into a
// Tree value, plan how to get from the tree that is to the tree that is wanted,
// apply the plan.
//
//	/sys/kernel/config/dlm/cluster/            attributes of the cluster
//	    comms/<node>/                          one for each known node, ourselves included
//	    spaces/<lockspace>/nodes/<node>/       the members of one lockspace
//
// It promises:
//   - Reading and parsing are apart; Plan is pure and its operations have a text
//     form (Op.String), so that tests compare plans as text.
//   - Applying is idempotent: a directory that exists is as good as made, one
//     that is gone as good as removed. Every attribute is one write(2) through a
//     descriptor opened O_WRONLY and nothing else, and is read back where the
//     kernel lets it be read.
//   - The kernel's rules of order are in the plan, not in its callers: nodeid
//     before addr, an address before mark, comms before the members that record
//     their sequence, removal bottom up, the local comm last and never while a
//     space exists, a space that stays is never rebuilt.
//
// The root of the tree is a value (FS), so that the same code runs on a kernel
// and on configfstest.Fake, which has the kernel's manners.
//
// Sources of the kernel facts: fs/dlm/config.c of Linux 6.1, 6.12, 6.17, 6.18.
package configfs
