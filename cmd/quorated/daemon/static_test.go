package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
)

func staticConfig(t *testing.T, list string) config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "members")
	cfg, err := config.Parse("quorate.toml", []byte("[cluster]\nname = \"tank\"\ngroup = \"static\"\nmembers = \""+path+"\"\n"+
		"[[node]]\nname = \"alpha\"\nid = 1\naddr = [\"10.0.0.1\"]\n[[node]]\nname = \"beta\"\nid = 2\naddr = [\"10.0.0.2\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Self = 1
	if list != "" {
		if err := os.WriteFile(path, []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

func TestTheFirstListMustBeWhole(t *testing.T) {
	if _, err := newMemberList(staticConfig(t, "")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := newMemberList(staticConfig(t, "alpha\nbeta")); !errors.Is(err, config.ErrInvalid) {
		t.Errorf("half a file: %v", err)
	}
	if _, err := newMemberList(staticConfig(t, "beta\n")); !errors.Is(err, config.ErrInvalid) {
		t.Errorf("without this node: %v", err)
	}
	cfg := staticConfig(t, "beta\nalpha\n")
	m, err := newMemberList(cfg)
	if err != nil || !slices.Equal(m.list.Nodes, []membership.NodeID{1, 2}) || m.list.From != cfg.MembersFile {
		t.Fatalf("%+v %v", m, err)
	}
	cfg.MembersFile = ""
	if m, err = newMemberList(cfg); err != nil || m.list.From != "quorate.toml" || len(m.list.Nodes) != 2 {
		t.Fatalf("%+v %v", m, err)
	}
}

// Where nobody is fenced, no section for a device is asked for: it would be refused.
func TestAListHasNoDevices(t *testing.T) {
	if text := noDevices(staticConfig(t, "alpha\n"), 0); !strings.Contains(text, "nobody is fenced") || strings.Contains(text, "[[fence]]") {
		t.Error(text)
	}
}

// A list counts when two looks agree on it, and a bad one leaves the last good
// one in force, with the reason.
func TestAListHasToSettle(t *testing.T) {
	m, err := newMemberList(staticConfig(t, "alpha\nbeta\n"))
	if err != nil {
		t.Fatal(err)
	}
	both, alone := []membership.NodeID{1, 2}, []membership.NodeID{1}
	for i, s := range []struct {
		text    string
		err     error
		changed bool
		want    []membership.NodeID
		words   string
	}{
		{"alpha\nbeta\n", nil, false, both, ""},
		{"alpha\nbeta\n", nil, true, both, ""}, // the same again does no harm
		{"alpha\n", nil, false, both, ""},      // half of what is being written
		{"alpha\nbeta\n", nil, false, both, ""},
		{"alpha\n", nil, false, both, ""},
		{"alpha\n", nil, true, alone, ""},
		{"alpha\n", nil, false, alone, ""},
		{"", nil, false, alone, ""},
		{"", nil, true, alone, "nobody is listed"},
		{"", nil, false, alone, "nobody is listed"},
		{"", fs.ErrNotExist, false, alone, "nobody is listed"},
		{"", fs.ErrNotExist, true, alone, "one a line"},
		{"alpha\n", nil, false, alone, "one a line"},
		{"alpha\n", nil, true, alone, ""},
		{"beta\n", nil, false, alone, ""},
		{"beta\n", nil, true, alone, "does not list this node"},
	} {
		l, changed := m.look([]byte(s.text), s.err)
		if changed != s.changed || !slices.Equal(l.Nodes, s.want) || !strings.Contains(l.Err, s.words) || s.words == "" && l.Err != "" {
			t.Errorf("step %d, %q %v: %+v %v", i, s.text, s.err, l, changed)
		}
	}
}

func TestWatchPostsWhatSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newMemberList(staticConfig(t, "alpha\nbeta\n"))
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan node.Listed, 20)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- m.watch(ctx, func() ([]byte, error) { return []byte("alpha\n"), nil }, func(in node.Input) { got <- in.(node.Listed) })
		}()
		time.Sleep(lookEvery * 3 / 2)
		synctest.Wait()
		if len(got) != 0 {
			t.Fatalf("after one look: %+v", <-got)
		}
		time.Sleep(10 * lookEvery)
		synctest.Wait()
		if l := <-got; len(got) != 0 || !slices.Equal(l.List.Nodes, []membership.NodeID{1}) {
			t.Fatalf("%+v and %d more", l, len(got))
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
