package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// sayUsage has every command say of wrong arguments what it takes.
func sayUsage(c *cobra.Command) {
	for _, sub := range c.Commands() {
		sayUsage(sub)
	}
	c.SuggestionsMinimumDistance = 2
	check := c.Args
	if check == nil {
		return // cobra's own, and the root, whose mistakes are wrong names of commands
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if check(c, args) == nil {
			return nil
		}
		return fmt.Errorf("%w: %s", errUsage, wrongArgs(c, args))
	}
}

// wrongArgs says what is wrong with arguments that the command does not take.
func wrongArgs(c *cobra.Command, args []string) string {
	_, takes, some := strings.Cut(c.Use, " ")
	switch {
	case c.HasSubCommands():
		return fmt.Sprintf("%s has no %q%s: see `%[1]s --help`", c.CommandPath(), args[0], maybe(c.SuggestionsFor(args[0])))
	case !some:
		return fmt.Sprintf("%s takes no arguments, and was given %q: see `%[1]s --help`", c.CommandPath(), strings.Join(args, " "))
	}
	return fmt.Sprintf("write %s %s: see `%[1]s --help`", c.CommandPath(), takes)
}

// misread says what is wrong with arguments that were not understood.
func misread(root *cobra.Command, args []string, err error) error {
	if name := oneDash(root, args); name != "" {
		return fmt.Errorf("%w: write --%s, with two dashes: see `%s --help`", errUsage, name, root.Name())
	}
	return unknownCommand(root, err)
}

// plainly puts what Go says of a value into words.
func plainly(err error) error {
	for inner, words := range map[string]string{": strconv.": "write a number", ": time: ": "write a time, as 30s or 5m"} {
		if text, why, ok := strings.Cut(err.Error(), inner); ok {
			if strings.HasSuffix(why, strconv.ErrRange.Error()) {
				words = "the number is too large"
			}
			return fmt.Errorf("%s: %s", text, words)
		}
	}
	return err
}

// oneDash is an option that was written with one dash, which makes it many of one letter.
func oneDash(root *cobra.Command, args []string) string {
	for _, arg := range args {
		word, ok := strings.CutPrefix(arg, "-")
		if arg == "--" || !ok {
			continue
		}
		if name, _, _ := strings.Cut(word, "="); len(name) > 1 && hasOption(root, name) {
			return name
		}
	}
	return ""
}

// hasOption says whether any command has it.
func hasOption(c *cobra.Command, name string) bool {
	if name == "help" || c.Flags().Lookup(name) != nil || c.PersistentFlags().Lookup(name) != nil {
		return true
	}
	return slices.ContainsFunc(c.Commands(), func(sub *cobra.Command) bool { return hasOption(sub, name) })
}

// unknownCommand puts cobra's complaint of a word that is no command into ours; other
// errors stay as they are.
func unknownCommand(root *cobra.Command, err error) error {
	word, ok := strings.CutPrefix(err.Error(), `unknown command "`)
	if !ok {
		return err
	}
	word, _, _ = strings.Cut(word, `"`)
	return fmt.Errorf("%w: %s", errUsage, wrongArgs(root, []string{word}))
}

func maybe(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return " (did you mean " + strings.Join(names, " or ") + "?)"
}
