package membership

import "slices"

// Without are those of the nodes that are none of the others, in their order.
func Without(nodes []NodeID, others ...NodeID) []NodeID {
	return slices.DeleteFunc(slices.Clone(nodes), func(n NodeID) bool { return slices.Contains(others, n) })
}
