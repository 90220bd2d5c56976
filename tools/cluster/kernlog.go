package cluster

import (
	"regexp"
	"strings"
)

// kernelFaults are the words of a kernel's log that mean that the DLM, GFS2 or
// the kernel itself went wrong, from the sources of Linux 6.1 (log_error in
// fs/dlm, fs_err in fs/gfs2). What a lost peer or a refused join makes them say is
// not among them: closed connections, "no userland control daemon", "group join failed",
// "dlm_new_lockspace error", a journal that is busy.
var kernelFaults = regexp.MustCompile(strings.Join([]string{
	`\bBUG\b`, `\bOops\b`, `cut here`, `Kernel panic`, `general protection`, `refcount_t:`, `list_(add|del) corruption`, `I/O error`,

	`DLM:  Assertion failed`,
	`\bdlm: .*\b(addwait|remwait) error\b`,
	`\bdlm: .*\breceive_\w+ .*\b(bad|error)\b`,
	`\bdlm: .*\bdlm_recover\w* .*\b(bad|not dir)\b`,
	`\bdlm: .*\b(invalid|idr error|not released|rsb_insert match|unlock on MSTCPY|recover_dir lookup)\b`,
	`\bdlm: WARN\b`,

	`\bgfs2: .*(?i:withdraw|fatal|corrupt|lm_lock ret|magic number missing|journal .* is bad|inconsistent)`,
	`\bgfs2: .*(Error -?\d+|Error:|Failed to)`,
}, "|"))

// KernelFaults are the lines of a kernel's log that mean a fault.
func KernelFaults(log string) []string {
	var out []string
	for l := range strings.Lines(log) {
		if l = strings.TrimSpace(l); kernelFaults.MatchString(l) {
			out = append(out, l)
		}
	}
	return out
}
