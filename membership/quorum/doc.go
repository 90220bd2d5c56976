// Package quorum says whether a set of nodes may decide for the cluster.
//
// It is pure: a Policy is what was configured, and everything is arithmetic on it.
// Every configured node counts in the expected votes, dead or alive, so that
// two sets without a common node are never both quorate. A policy never replaces the
// ordered group's own majority: a start needs both.
//
// The rules are those of votequorum(5), by the same names. There they lower the votes
// that are needed; here they never do so for nodes that may be alive. Who counts is an
// electorate, which shrinks by what was agreed and proved alone: by a clean leave
// (AfterLeave), by proof that somebody is gone while a quorum lives (AfterLosses), and
// by a fenced reconfiguration (Takeover, docs/design.md). Policy.Of is the policy of an
// electorate.
//
// Check refuses what contradicts itself, and Explain puts a situation into words.
package quorum
