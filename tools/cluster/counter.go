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
// numbers that they told since it was 0: none was made twice, and on the disk are
// those that were told and at most one more for each program whose end is unknown.
func AuditCounter(all []Event, disk uint64, unknown int) []Violation {
	var found []Violation
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
	if more := int(disk) - len(by); more > unknown {
		broken("the counter is %d: %d increments were told, and %d programs ended in the middle", disk, len(by), unknown)
	}
	return found
}
