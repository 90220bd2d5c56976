package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// group is a command that does nothing without one of its own; see is what else to look
// at, after a comma.
func group(use, short, see string, of ...*cobra.Command) *cobra.Command {
	words := make([]string, len(of))
	for i, c := range of {
		words[i] = c.Name()
	}
	g := &cobra.Command{Use: use + " COMMAND", Short: short, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		return fmt.Errorf("%w: %s needs one of %s: see `quorate %[2]s --help`%[4]s", errUsage, use, strings.Join(words, ", "), see)
	}}
	g.AddCommand(of...)
	return g
}
