package recovery

import (
	"slices"
	"strconv"
	"strings"
)

// quorumReached reads what corosync-quorumtool -s prints.
func quorumReached(text string) bool {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok && k == "Quorate" {
			return strings.TrimSpace(v) == "Yes"
		}
	}
	return false
}

// daemonMembers reads the members, ascending, from what dlm_tool status prints: a
// line "node ID M ..." for each.
func daemonMembers(text string) (out []int) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "node" || f[2] != "M" {
			continue
		}
		if id, err := strconv.Atoi(f[1]); err == nil {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// lockspaceMembers reads the members, ascending, of a lockspace from what dlm_tool
// ls prints: paragraphs of names and values. It is not ok when the lockspace is not
// there, is stopped, or a change of it has not ended.
func lockspaceMembers(text, name string) (members []int, ok bool) {
	for para := range strings.SplitSeq(text, "\n\n") {
		v := map[string]string{}
		for line := range strings.Lines(para) {
			// "new change" is a name too, and no other has a space in it.
			key, rest, _ := strings.Cut(strings.Replace(line, "new ", "new_", 1), " ")
			v[key] = strings.TrimSpace(rest)
		}
		_, changing := v["new_change"]
		if v["name"] != name || changing || strings.Contains(v["flags"], "kern_stop") {
			continue
		}
		for f := range strings.FieldsSeq(v["members"]) {
			if id, err := strconv.Atoi(f); err == nil {
				members = append(members, id)
			}
		}
		slices.Sort(members)
		return members, true
	}
	return nil, false
}

// kernelWord is what a line of the kernel's log says of the DLM's recovery of a
// lockspace.
type kernelWord int

const (
	unrelated kernelWord = iota
	begun                // control=1 was written
	done
)

// recoveryWord reads "dlm: LOCKSPACE: dlm_recover SEQ", which begins a recovery,
// and the same with "... done: N ms" behind it (fs/dlm/recoverd.c, ls_recover; the
// same from 6.1 to 7.3).
func recoveryWord(line, lockspace string) kernelWord {
	rest, ok := strings.CutPrefix(line, "dlm: "+lockspace+": dlm_recover ")
	if !ok {
		return unrelated
	}
	seq, more, _ := strings.Cut(rest, " ")
	if _, err := strconv.ParseUint(seq, 10, 64); err != nil {
		return unrelated
	}
	switch {
	case more == "":
		return begun
	case strings.Contains(more, " done: "):
		return done
	}
	return unrelated
}
