package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// tablePath is the table, from the top of the checkout.
const tablePath = "docs/evidence.md"

func main() {
	write := flag.Bool("w", false, "put the table right")
	top := flag.String("C", ".", "the `folder` of the checkout")
	flag.Parse()
	os.Exit(run(*top, *write, os.Stdout))
}

func run(top string, write bool, out io.Writer) int {
	file := filepath.Join(top, tablePath)
	old, err := os.ReadFile(file)
	if err != nil {
		fmt.Fprintln(out, "evidence:", err)
		return 1
	}
	src, err := readSources(top)
	if err != nil {
		fmt.Fprintln(out, "evidence:", err)
		return 1
	}
	now, faults := src.complete(string(old))
	for _, f := range faults {
		fmt.Fprintf(out, "%s: %s\n", tablePath, f)
	}
	switch {
	case now == string(old):
	case write:
		if err := os.WriteFile(file, []byte(now), 0o644); err != nil {
			fmt.Fprintln(out, "evidence:", err)
			return 1
		}
	default:
		fmt.Fprintf(out, "%s: not as it would be written now: make evidence writes it\n", tablePath)
		return 1
	}
	if len(faults) > 0 {
		return 1
	}
	return 0
}
