package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/tools/lab"
)

func execCmd() *cobra.Command {
	c := &cobra.Command{Use: "exec N COMMAND [ARGUMENT...]", Short: "Run a command in a node",
		Long: "Run a command in a node. One word is a shell script, several are a program and its arguments.",
		Args: cobra.MinimumNArgs(2)}
	c.Flags().SetInterspersed(false)
	c.RunE = func(c *cobra.Command, args []string) error {
		program, err := program(args[1:])
		if err != nil {
			return err
		}
		cmd := lab.Cmd{Args: program, Stdout: os.Stdout, Stderr: os.Stderr}
		if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err != nil {
			cmd.Stdin = os.Stdin
		}
		return inNode(c, args[0], cmd, nil)
	}
	return c
}

// program is what the words after the node's number run. A -- before them, which
// other tools want there, is none of them.
func program(words []string) ([]string, error) {
	if words[0] == "--" {
		words = words[1:]
	}
	switch len(words) {
	case 0:
		return nil, errors.New("say what to run after --")
	case 1:
		return []string{"/bin/sh", "-c", words[0]}, nil
	}
	return words, nil
}

func shCmd() *cobra.Command {
	return &cobra.Command{Use: "sh N", Short: "A shell in a node", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			old, err := unix.IoctlGetTermios(0, unix.TCGETS)
			if err != nil {
				return fmt.Errorf("standard input is no terminal, use `lab exec`: %w", err)
			}
			defer unix.IoctlSetTermios(0, unix.TCSETS, old)
			if err := raw(*old); err != nil {
				return err
			}
			size := terminalSize()
			cmd := lab.Cmd{Args: []string{"/bin/bash", "-l"}, Env: []string{"TERM=" + os.Getenv("TERM")},
				Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, TTY: &size}
			return inNode(c, args[0], cmd, resize)
		}}
}

// raw makes the terminal pass every key on.
func raw(t unix.Termios) error {
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(0, unix.TCSETS, &t)
}

func terminalSize() lab.Size {
	if w, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
		return lab.Size{Rows: w.Row, Cols: w.Col}
	}
	return lab.Size{Rows: 24, Cols: 80}
}

// resize follows the size of the terminal until ctx ends.
func resize(ctx context.Context, p *lab.Proc) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGWINCH)
	defer signal.Stop(ch)
	for {
		select {
		case <-ch:
			p.Resize(terminalSize())
		case <-ctx.Done():
			return
		}
	}
}

// inNode runs a command to its end and makes its exit status ours.
func inNode(c *cobra.Command, node string, cmd lab.Cmd, beside func(context.Context, *lab.Proc)) error {
	n, err := strconv.Atoi(node)
	if err != nil {
		return fmt.Errorf("%q is not a node's number", node)
	}
	r, err := remote(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	p, err := r.Start(ctx, n, cmd)
	if err != nil {
		return err
	}
	if beside != nil {
		go beside(ctx, p)
	}
	code, err := p.Wait()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("node%d died", n)
	}
	if err == nil && code != 0 {
		return exitStatus(code)
	}
	return err
}

func putCmd() *cobra.Command {
	return &cobra.Command{Use: "put N LOCAL REMOTE", Short: "Copy a file into a node, mode kept", Args: cobra.ExactArgs(3),
		RunE: func(c *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[0])
			if err != nil {
				return fmt.Errorf("%q is not a node's number", args[0])
			}
			st, err := os.Stat(args[1])
			if err != nil {
				return err
			}
			r, err := remote(c)
			if err != nil {
				return err
			}
			return r.Put(c.Context(), n, args[1], args[2], st.Mode())
		}}
}

func consoleCmd() *cobra.Command {
	return &cobra.Command{Use: "console N", Short: "Print a node's console", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ns, err := numbers(args)
			if err != nil {
				return err
			}
			r, err := remote(c)
			if err != nil {
				return err
			}
			name, err := r.Do(lab.Order{Op: "console", Args: ns})
			if err != nil {
				return err
			}
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(os.Stdout, f)
			return err
		}}
}
