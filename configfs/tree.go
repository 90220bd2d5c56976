package configfs

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Errors that callers tell apart.
var (
	ErrAddr      = errors.New("address not usable")
	ErrName      = errors.New("name not usable in configfs")
	ErrLocalComm = errors.New("the local comm must not be removed while a lockspace exists; leave all lockspaces first")
	ErrReadBack  = errors.New("the kernel did not take the value")
	ErrParse     = errors.New("unexpected content")
)

// ClusterDir is the name of the cluster's directory. lvmlockd and others have
// it hard-wired, and the kernel can have only one.
const ClusterDir = "cluster"

const (
	dlmDir     = "dlm"
	clusterDir = dlmDir + "/" + ClusterDir
)

// Tree is the content of the cluster's directory. In a wanted tree only the
// attributes that must have a value are named.
type Tree struct {
	Present bool              // the cluster's directory exists
	Attrs   map[string]string // attribute file -> value without newline
	Comms   map[uint32]Comm   // by node id
	Spaces  map[string]Space  // by lockspace name
}

// Comm is one node's transport entry.
type Comm struct {
	Addrs []netip.Addr // the first one is the one that TCP uses
	Local bool         // our own
	Mark  uint32       // SO_MARK toward the node; 0: the cluster's mark

	// Renew, in a wanted tree: remove the entry and make it again, so that the
	// kernel sees another incarnation (comm_seq).
	Renew bool
}

// Space is one lockspace's member list.
type Space struct {
	Members map[uint32]Member
	// Recover names nodes (in a wanted tree) that, if they are removed or
	// renewed, are removed with release_recover=1: their slot is recovered as a
	// failed node's is. Only where Features.ReleaseRecover is Yes.
	Recover map[uint32]bool
}

// Member is one node of a lockspace.
type Member struct {
	Weight int // share of the directory; 1 is the kernel's default, 0 never a directory node

	// Renew, in a wanted tree: remove the entry and make it again: the node
	// left and came back between two starts.
	Renew bool
}

// CheckName says whether a lockspace's name can be a directory here.
func CheckName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
	case len(name) > 64: // DLM_LOCKSPACE_LEN
	case strings.ContainsAny(name, "/\x00"):
	default:
		return nil
	}
	return fmt.Errorf("%w: %q", ErrName, name)
}

// CommPath is the directory of a node's comm.
func CommPath(node uint32) string { return fmt.Sprintf("%s/comms/%d", clusterDir, node) }

// SpacePath is the directory of a lockspace.
func SpacePath(ls string) string { return clusterDir + "/spaces/" + ls }

// MemberPath is the directory of a member of a lockspace.
func MemberPath(ls string, node uint32) string {
	return fmt.Sprintf("%s/nodes/%d", SpacePath(ls), node)
}
