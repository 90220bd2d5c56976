package manual

import (
	"testing"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/fencetest"
)

func TestConformance(t *testing.T) {
	f := New(membership.Config{Nodes: []membership.Node{{ID: 1, Name: "alpha"}}})
	fencetest.RunRefusing(t, f, "quorate fence ack alpha", "powered off")
	if err := f.Monitor(t.Context(), 1); err != nil {
		t.Error(err)
	}
}
