package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/membership"
)

func view(node int, id string, seen membership.Mono, members ...int) View {
	return View{Node: node, ID: id, Members: members, Seen: seen, Stamp: seen - 1}
}

var agreements = []struct {
	name string
	all  []View
	want membership.Mono // when the last member told it; 0: no agreement
}{
	{"nothing", nil, 0},
	{"all", []View{view(1, "v2", 20, 1, 3), view(3, "v2", 30, 1, 3)}, 30},
	{"one is missing", []View{view(1, "v2", 20, 1, 3)}, 0},
	{"one told twice", []View{view(1, "v2", 20, 1, 3), view(1, "v2", 25, 1, 3)}, 0},
	{"before the death", []View{view(1, "v2", 9, 1, 3), view(3, "v2", 30, 1, 3)}, 0},
	{"the dead is in it", []View{view(1, "v2", 20, 1, 2, 3), view(3, "v2", 30, 1, 2, 3)}, 0},
	{"the dead told it", []View{view(1, "v2", 20, 1, 3), view(2, "v2", 30, 1, 3)}, 0},
	{"a survivor is not in it", []View{view(1, "v2", 20, 1), view(3, "v2", 30, 1)}, 0},
	{"two views", []View{view(1, "v2", 20, 1, 3), view(3, "v3", 30, 1, 3)}, 0},
	{"two views, then one", []View{view(1, "v2", 20, 1, 3), view(3, "v3", 30, 1, 3), view(1, "v3", 40, 1, 3)}, 40},
	{"the first counts", []View{view(1, "v2", 20, 1, 3), view(3, "v2", 30, 1, 3), view(1, "v3", 40, 1, 3), view(3, "v3", 50, 1, 3)}, 30},
}

func TestAgreed(t *testing.T) {
	for _, a := range agreements {
		t.Run(a.name, func(t *testing.T) {
			got := agreed(a.all, 10, []int{1, 3})
			if (got == nil) != (a.want == 0) {
				t.Fatalf("%+v", got)
			}
			var last membership.Mono
			for i, v := range got {
				last = max(last, v.Seen)
				if v.Node != []int{1, 3}[i] || v.ID != got[0].ID {
					t.Errorf("%+v", got)
				}
			}
			if last != a.want {
				t.Errorf("agreed at %d, want %d", last, a.want)
			}
		})
	}
}

func TestViewsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := NewViews()
		go func() {
			time.Sleep(time.Second)
			v.Add(view(1, "v2", 20, 1, 3))
			time.Sleep(time.Second)
			v.Add(view(3, "v2", 30, 1, 3))
		}()
		start := time.Now()
		if got, err := v.Agreed(t.Context(), 10, []int{1, 3}); err != nil || len(got) != 2 || time.Since(start) != 2*time.Second {
			t.Errorf("%v %v after %s", got, err, time.Since(start))
		}
	})
}

// TestViewsGiveUp: the error has the reason and what was told.
func TestViewsGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, cause := NewViews(), errors.New("too late")
		v.Add(view(1, "v1", 5, 1, 2, 3))
		v.Add(view(1, "v2", 20, 1, 3))
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		_, err := v.Agreed(ctx, 10, []int{1, 3})
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), "node1 v2 [1 3]") || strings.Contains(err.Error(), "v1") {
			t.Error(err)
		}
	})
}

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		notYet := errors.New("not yet")
		err := until(t.Context(), time.Second, func(context.Context) error {
			if asked++; asked < 3 {
				return notYet
			}
			return nil
		})
		if err != nil || asked != 3 {
			t.Errorf("%v after %d", err, asked)
		}
		if err := until(t.Context(), time.Second, func(context.Context) error { return notYet }); !errors.Is(err, notYet) || !strings.Contains(err.Error(), "not within 1s") {
			t.Error(err)
		}
	})
}

func TestBoottime(t *testing.T) {
	a := boottime()
	if b := boottime(); a <= 0 || b < a {
		t.Errorf("%d %d", a, b)
	}
}
