// Package importer turns the configuration of the incumbents into quorate.toml:
// corosync.conf with or without dlm_controld's dlm.conf, or cman's cluster.conf.
//
// The order of things: each file is read into a tree (conf, dlmFile, element), which
// knows lines and no meaning; a second function gives the tree's parts their
// meaning and fills a plan; checks see to it that the plan is one that
// config.Parse accepts; render writes it. Everything is pure: host names are
// resolved by a function that the caller gives, or refused.
//
// What it promises: bytes that it cannot understand are Faults, each as
// file:line, what is wrong and what to write. What it wrote says in comments from
// where each line came, what is left to do, and what has no counterpart and why.
// Nothing is left out in silence. The value of a secret is dropped when
// its device is made of what was read: it is neither in the output nor in an error.
//
// The meaning of the keys is that of corosync.conf(5) and votequorum(5) of
// corosync 3, dlm.conf(5) of dlm 4, and cluster.conf(5), cman(5), fenced(8) of
// cluster 3.
package importer
