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
