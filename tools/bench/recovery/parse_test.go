package recovery

import (
	"slices"
	"testing"
)

func TestQuorumReached(t *testing.T) {
	for text, want := range map[string]bool{
		"":                               false,
		"Cannot connect, is it running?": false,
		"Nodes:            2\nQuorate:          No\n":                                   false,
		"Quorum information\n----\nNodes:            2\nQuorate:          Yes\n\nX: No": true,
		"NotQuorate: Yes\n": false,
	} {
		if got := quorumReached(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestDaemonMembers(t *testing.T) {
	text := "cluster nodeid 2 quorate 1 ring seq 8 8\ndaemon now 31 fence_pid 0 \n" +
		"node 3 M add 11 rem 0 fail 0 fence 0 at 0 0\nnode 1 M add 9 rem 0 fail 0 fence 0 at 0 0\n" +
		"node 2 X add 9 rem 20 fail 0 fence 0 at 0 0\nnode x M add\nnode\n"
	if got := daemonMembers(text); !slices.Equal(got, []int{1, 3}) {
		t.Errorf("%v", got)
	}
	if got := daemonMembers("cannot connect\n"); got != nil {
		t.Errorf("%v", got)
	}
}

const twoLockspaces = `dlm lockspaces
name          other
id            0x00000001
flags         0x00000000 
change        member 1 joined 1 remove 0 failed 0 seq 1,1
members       9 

name          gfs
id            0x00000002
flags         0x00000000 
change        member 3 joined 1 remove 0 failed 0 seq 3,3
members       3 1 2 
`

func TestLockspaceMembers(t *testing.T) {
	if got, ok := lockspaceMembers(twoLockspaces, "gfs"); !ok || !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("%v %v", got, ok)
	}
	for name, text := range map[string]string{
		"nothing":      "dlm lockspaces\n",
		"no such name": "dlm lockspaces\nname          gfs2\nmembers       1 2 \n",
		"stopped":      "dlm lockspaces\nname          gfs\nflags         0x00000004 kern_stop\nmembers       1 2 \n",
		"in a change":  "dlm lockspaces\nname          gfs\nflags         0x00000000 \nmembers       1 2 \nnew change    member 2 joined 0 remove 1 failed 1 seq 4,4\nnew members   1 2 \n",
	} {
		if got, ok := lockspaceMembers(text, "gfs"); ok {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestRecoveryWord(t *testing.T) {
	for line, want := range map[string]kernelWord{
		"dlm: gfs: dlm_recover 7":                          begun,
		"dlm: gfs: dlm_recover 18446744073709551615":       begun,
		"dlm: gfs: dlm_recover 7 generation 3 done: 41 ms": done,
		"dlm: gfs: dlm_recover 7 error -22":                unrelated,
		"dlm: gfs: dlm_recover_members 3 nodes":            unrelated,
		"dlm: gfs: dlm_recover x":                          unrelated,
		"dlm: other: dlm_recover 7":                        unrelated,
		"gfs2: dlm: gfs: dlm_recover 7":                    unrelated,
		"":                                                 unrelated,
	} {
		if got := recoveryWord(line, "gfs"); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

// FuzzForeign: nothing that the incumbent's programs or a kernel may print stops bench.
func FuzzForeign(f *testing.F) {
	for _, s := range []string{twoLockspaces, "Quorate: Yes\n", "node 1 M\n", "dlm: gfs: dlm_recover 1 generation 1 done: 2 ms"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		quorumReached(text)
		if got := daemonMembers(text); !slices.IsSorted(got) {
			t.Error(got)
		}
		if got, ok := lockspaceMembers(text, "gfs"); !slices.IsSorted(got) || !ok && got != nil {
			t.Error(got, ok)
		}
		recoveryWord(text, "gfs")
	})
}
