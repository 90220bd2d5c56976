package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCorosyncConf: what a setting says stands in totem, and nothing else differs.
func TestCorosyncConf(t *testing.T) {
	for _, s := range settings {
		file := filepath.Join("testdata", "corosync-"+s.name+".conf")
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := corosyncConf(s, "/d/state1", 3); got != string(want) {
			t.Errorf("%s:\n%s", file, got)
		}
	}
	if _, err := settingNamed("nope"); !errors.Is(err, errUsage) {
		t.Error(err)
	}
}

const corosyncLog = `Nov 29 12:35:40.351 notice  [TOTEM ] A new membership (1.5) was formed. Members joined: 1
Nov 29 12:35:40.352 notice  [QUORUM] Members[1]: 1
Nov 29 12:35:40.352 notice  [MAIN  ] Completed service synchronization, ready to provide service.
Nov 29 12:35:41.052 notice  [TOTEM ] A new membership (1.1f) was formed. Members joined: 2 3
Nov 29 12:35:41.053 notice  [QUORUM] This node is within the primary component and will provide service.
Nov 29 12:35:41.053 notice  [QUORUM] Members[3]: 1 2 3`

func TestCorosyncReader(t *testing.T) {
	var r corosyncReader
	var got []string
	for line := range strings.Lines(corosyncLog) {
		v, err := r.read(line)
		if err != nil {
			t.Fatal(err)
		}
		if v.ID != "" {
			got = append(got, fmt.Sprint(v.ID, v.Members))
		}
	}
	if want := []string{"1.5[1]", "1.1f[1 2 3]"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for _, bad := range []string{"[QUORUM] Members[2]: 1", `[QUORUM] Members[3]: 1 2\`, "[QUORUM] Members[1]: 99999999999999999999"} {
		if v, err := r.read(bad); !errors.Is(err, errCorosync) {
			t.Errorf("%q: %+v %v", bad, v, err)
		}
	}
	if _, err := (&corosyncReader{}).read("[QUORUM] Members[1]: 1"); !errors.Is(err, errCorosync) {
		t.Error("a view without a ring:", err)
	}
}

func TestLineWriter(t *testing.T) {
	var lines []string
	var to strings.Builder
	w := &lineWriter{to: &to, lines: func(l string) { lines = append(lines, l) }}
	for _, s := range []string{"a", "b\nc\n", "", "\nd"} {
		if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
			t.Error(n, err)
		}
	}
	if !slices.Equal(lines, []string{"ab", "c", ""}) || to.String() != "ab\nc\n\nd" {
		t.Errorf("%q %q", lines, to.String())
	}
}
