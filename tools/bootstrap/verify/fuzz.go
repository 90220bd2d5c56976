package main

import (
	"bufio"
	"encoding/json"
	"io"
	"strings"
)

// target is one fuzz target.
type target struct{ pkg, name string }

// readTargets picks the fuzz targets out of `go test -json -list ^Fuzz`.
func readTargets(in io.Reader) ([]target, error) {
	var out []target
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var e testEvent
		if json.Unmarshal(sc.Bytes(), &e) != nil || e.Action != "output" {
			continue
		}
		if name := strings.TrimSpace(e.Output); strings.HasPrefix(name, "Fuzz") && !strings.ContainsAny(name, " \t") {
			out = append(out, target{e.Package, name})
		}
	}
	return out, sc.Err()
}

// raced says that a fuzz run failed on nothing but the end of its own time: up to
// Go 1.26 the coordinator may take the deadline for a failure of the target
// (go.dev/issue/75804, fixed in 1.27). A finding always says more than that.
func raced(log string) bool {
	bare := false
	for line := range strings.Lines(log) {
		word := strings.TrimSpace(line)
		switch {
		case word == "context deadline exceeded":
			bare = true
		case word == "FAIL", word == "", strings.HasPrefix(word, "fuzz: elapsed:"), strings.HasPrefix(word, "--- FAIL: Fuzz"),
			strings.HasPrefix(word, "FAIL\t"), strings.HasPrefix(word, "exit status "):
		default:
			return false
		}
	}
	return bare
}
