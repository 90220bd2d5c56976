// Package quorum says whether a set of nodes may decide for the cluster.
//
// It is pure: a Policy is what was configured, Quorate is arithmetic on it.
// Every configured node counts in the expected votes, dead or alive, so that
// two sets without a common node are never both quorate; nothing that happens
// at run time lowers the number of votes needed. Going on with fewer is a fenced
// reconfiguration, which makes a new Policy after proof (docs/design.md), and a
// policy never replaces the ordered group's own majority: a start needs both.
package quorum
