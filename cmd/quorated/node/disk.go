package node

import "github.com/quorate/quorate/membership"

// diskLost goes on without a log where the group can: this node votes no more,
// and stays a member. Where it cannot, this is the end.
func (n *Node) diskLost(in DiskLost) {
	g, ok := n.group.(membership.Diskless)
	if !ok || !g.DiskLost(in.Why) {
		n.break_("the log could not be written: " + in.Why)
		return
	}
	n.noDisk = in.Why
	n.step(membership.GroupTimer{}) // the others are told
}
