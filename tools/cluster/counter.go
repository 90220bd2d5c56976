package cluster

import (
	"context"
	"fmt"
	"strings"
)

// Counter reads the number that `labnode dlm count` keeps on the disk.
func (c *Cluster) Counter(ctx context.Context, on int) (uint64, error) {
	out, err := c.Lab.Node(on).Run(ctx, "dd if="+Disk+" bs=4096 skip=1 count=1 iflag=direct 2>/dev/null | tr -d '\\0'")
	if err != nil || out == "" { // a block of zeros
		return 0, err
	}
	var n uint64
	if _, err := fmt.Sscanf(strings.TrimSpace(out), "counter %d", &n); err != nil {
		return 0, fmt.Errorf("no counter on node%d: %.40q", on, out)
	}
	return n, nil
}

// AuditCounter checks a counter that all nodes count up under a lock, from all
// numbers that they told since it was 0: none was made twice, and none is beyond
// what is on the disk. Of a number that nobody told nothing is known: one may be
// missing for each program that ended in the middle, and lost counts the others, whose
// datagrams never came. An increment that was made twice could hide behind them.
func AuditCounter(all []Event, disk uint64, ended int) (found []Violation, lost int) {
	broken := func(format string, args ...any) {
		found = append(found, Violation{"lock", fmt.Sprintf(format, args...)})
	}
	by := map[uint64]int{}
	for _, e := range all {
		switch e.Told {
		case "count-error":
			broken("node%d could not count: %s", e.Node, e.Text)
		case "counted":
			if o, ok := by[e.Number]; ok {
				broken("node%d and node%d both counted up to %d: one increment is lost", o, e.Node, e.Number)
			}
			by[e.Number] = e.Node
			if e.Number > disk {
				broken("node%d counted up to %d, and on the disk is %d", e.Node, e.Number, disk)
			}
		}
	}
	return found, max(int(disk)-len(by)-ended, 0)
}
