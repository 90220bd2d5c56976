package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/quorate/quorate/tools/lab"
)

// row is the demo on one kernel.
type row struct {
	Kernel  string  `json:"kernel"`            // as the lab names it
	Release string  `json:"release,omitempty"` // what was booted: suites move on
	Profile string  `json:"profile"`
	DeadMS  int64   `json:"dead_after_ms"`
	OK      bool    `json:"ok"`
	Error   string  `json:"error,omitempty"`
	TookS   float64 `json:"took_s"` // the whole demo, boots among it
	Report  *report `json:"report,omitempty"`
}

// timesOn is when a silent node is taken for dead on a kernel. A machine with two
// processors that runs three nodes lets one stand still for 200 ms now and then,
// and for much longer where they are emulated.
func timesOn(kernel string) (profile string, deadAfter time.Duration) {
	if lab.Emulated(kernel) {
		return "safe", 2 * time.Second
	}
	return "lan", 500 * time.Millisecond
}

// matrix tells the story on one kernel after the other and ends with a table. A
// kernel on which it fails does not keep the others from their turn.
func matrix(ctx context.Context, s set, out io.Writer) int {
	kernels := s.kernels
	if len(kernels) == 0 {
		kernels = lab.KernelNames()
	}
	if err := forget(s.out, "demo-matrix.json"); err != nil {
		fmt.Fprintf(out, "demo-matrix: FAILED %v\n", err)
		return 1
	}
	var rows []row
	for _, k := range kernels {
		if ctx.Err() != nil {
			break
		}
		rows = append(rows, onKernel(ctx, s, k, out))
	}
	fmt.Fprintf(out, "\n%s", table(rows))
	if err := writeJSON(filepath.Join(s.out, "demo-matrix.json"), rows); err != nil {
		fmt.Fprintf(out, "demo-matrix: FAILED %v\n", err)
		return 1
	}
	line, ok := verdict(rows, len(kernels))
	fmt.Fprintln(out, line)
	if !ok {
		return 1
	}
	return 0
}

// onKernel runs the demo on a kernel; what it says goes to a file.
func onKernel(ctx context.Context, s set, kernel string, out io.Writer) row {
	s.kernels, s.keep = []string{kernel}, false
	python := s.deadAfter
	s.profile, s.deadAfter = timesOn(kernel)
	s.deadAfter = max(s.deadAfter, python)
	s.out = filepath.Join(s.out, "demo-matrix", kernel)
	r := row{Kernel: kernel, Profile: s.profile, DeadMS: s.deadAfter.Milliseconds()}
	log, err := logFile(s.out)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	defer log.Close()
	fmt.Fprintf(out, "demo-matrix: %s, profile %s, dead_after %v, told in %s\n", kernel, s.profile, s.deadAfter, log.Name())
	d := &demo{set: s, out: log, began: time.Now()}
	line, err := d.tell(ctx)
	r.TookS = float64(time.Since(d.began).Milliseconds()) / 1000
	if d.c != nil && d.c.Lab != nil {
		r.Release = d.c.Lab.KernelVersion()
	}
	if err != nil {
		r.Error = err.Error()
		line = "demo: FAILED " + r.Error
	} else {
		r.OK, r.Report = true, &d.r
	}
	d.say("%s", line)
	fmt.Fprintf(out, "  %s\n", firstLine(line))
	return r
}

func logFile(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.Create(filepath.Join(dir, "demo.log"))
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// table has a line for each kernel, times in milliseconds.
func table(rows []row) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "kernel\trelease\tresult\tprofile\tdead_after\tstall_ms\tours_ms\tdetect\tagree\tfence\tkernel\trejoin\ttook_s")
	for _, r := range rows {
		if !r.OK {
			fmt.Fprintf(t, "%s\t%s\tFAILED\t%s\t%d\t-\t-\t-\t-\t-\t-\t-\t%.0f\n", r.Kernel, r.Release, r.Profile, r.DeadMS, r.TookS)
			continue
		}
		v := r.Report.Recovery
		fmt.Fprintf(t, "%s\t%s\tok\t%s\t%d\t%.0f/%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\n", r.Kernel, r.Release, r.Profile, r.DeadMS,
			v.StallMS, v.LastMS, v.OursMS, v.DetectMS, v.AgreeMS, v.FenceMS, v.KernelMS, r.Report.RejoinMS, r.TookS)
	}
	_ = t.Flush() // a strings.Builder takes everything
	for _, r := range rows {
		if !r.OK {
			fmt.Fprintf(&b, "%s: %s\n", r.Kernel, firstLine(r.Error))
		}
	}
	return b.String()
}

// verdict is the last line: all that were asked for ran, and well.
func verdict(rows []row, asked int) (line string, ok bool) {
	good := 0
	for _, r := range rows {
		if r.OK {
			good++
		}
	}
	word := "ok"
	if ok = good == asked; !ok {
		word = "FAILED"
	}
	return fmt.Sprintf("demo-matrix: %s kernels=%d/%d", word, good, asked), ok
}
