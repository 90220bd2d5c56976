package daemon

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/configfs/configfstest"
	"github.com/quorate/quorate/kbridge/dlm"
	"github.com/quorate/quorate/kbridge/dlm/dlmtest"
	"github.com/quorate/quorate/membership"
)

// The driver has to know which gateways are the peers themselves.
func TestTheDriverKnowsTheLinks(t *testing.T) {
	at := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	cfg := config.Config{Config: membership.Config{Cluster: "tank", Self: 1, Nodes: []membership.Node{
		{ID: 1, Name: "a", Addrs: []netip.Addr{at("10.0.0.1"), at("10.1.0.1")}},
		{ID: 2, Name: "b", Addrs: []netip.Addr{at("10.0.0.2"), at("10.1.0.2")}},
	}}}
	var got dlm.Options
	d := &Daemon{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	d.opt.fake = func(o dlm.Options) dlm.Options {
		got = o
		return dlmtest.New(configfstest.Linux6_18, 1).Options(o)
	}
	if _, err := d.openKernel(); err != nil {
		t.Fatal(err)
	}
	driver := d.kernel.(*dlm.Driver)
	defer func() { _ = driver.Close() }()
	for _, n := range cfg.Nodes {
		if !slices.Equal(got.Links[n.ID], n.Addrs) {
			t.Errorf("node %d: links %v, want %v", n.ID, got.Links[n.ID], n.Addrs)
		}
	}
	if err := driver.SetAddrs(dlmAddrs(cfg), linkAddrs(cfg)); err != nil {
		t.Error(err)
	}
}
