package main

import "github.com/spf13/cobra"

// groups are the commands as --help shows them, by what one wants.
var groups = []struct {
	title string
	of    []string
}{
	{"Look (also without root, in group quorate):", []string{"status", "why", "nodes", "links", "ls", "quorum", "events", "version"}},
	{"Take nodes out, and bring them back:", []string{"leave", "node", "maintenance", "fence", "witness"}},
	{"Set up and change the cluster:", []string{"keygen", "config", "key", "init"}},
}

// sortIntoGroups has --help show the commands in groups. Those of none are cobra's own.
func sortIntoGroups(root *cobra.Command) {
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, name := range g.of {
			for _, c := range root.Commands() {
				if c.Name() == name {
					c.GroupID = g.title
				}
			}
		}
	}
}
