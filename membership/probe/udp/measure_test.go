package udp

import (
	"context"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
)

var (
	measure  = flag.Duration("measure", 0, "measure one prober with seven peers for so long")
	interval = flag.Duration("interval", 40*time.Millisecond, "of what -measure measures")
)

const (
	peersEnv   = "QUORATE_TEST_PROBE_PEERS"
	peersCount = 7
)

// measured are eight nodes on loopback, all on one port.
func measured() []membership.Node {
	var nodes []membership.Node
	for i := range byte(peersCount + 1) {
		nodes = append(nodes, membership.Node{ID: membership.NodeID(i + 1), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{127, 77, 0, i + 1})}})
	}
	return nodes
}

func measuredProber(t *testing.T, self membership.NodeID, interval time.Duration) *Prober {
	p, err := New(Options{Self: self, Nodes: measured(), Interval: interval, Keys: key(), Instance: uint64(self)})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range measured() {
		p.SetEpoch(n.ID, uint64(n.ID))
	}
	return p
}

// TestMeasure prints round trips and CPU time of one prober, which is alone in
// its process; the seven peers, which probe as well, are in another.
func TestMeasure(t *testing.T) {
	if text := os.Getenv(peersEnv); text != "" {
		playPeers(t, text)
		return
	}
	if *measure == 0 {
		t.Skip("only with -measure 10s")
	}
	env, _ := json.Marshal(int64(*interval))
	child := exec.Command(os.Args[0], "-test.run=^TestMeasure$")
	child.Env = append(os.Environ(), peersEnv+"="+string(env))
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	p := measuredProber(t, 1, *interval)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	time.Sleep(time.Second) // all have started
	rtts, cpu, took := observe(p)
	cancel()
	wg.Wait()
	_ = stdin.Close()
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(rtts)
	n := len(rtts)
	t.Logf("%d peers, interval %v: %d samples, round trip p50 %v p99 %v p99.9 %v max %v; CPU %.2f ms/s; warnings %q",
		peersCount, *interval, n, rtts[n/2], rtts[n*99/100], rtts[n*999/1000], rtts[n-1],
		float64(cpu.Microseconds())/1000/took.Seconds(), p.Status().Warnings)
	t.Logf("%v", p.Counters())
}

// observe collects each answer's round trip, several times an interval, and the
// CPU time of the process; its own part is included.
func observe(p *Prober) (rtts []time.Duration, cpu, took time.Duration) {
	seen := map[membership.NodeID]uint64{}
	buf := make([]membership.Sample, 0, peersCount)
	before, began := cpuTime(), time.Now()
	for time.Since(began) < *measure {
		time.Sleep(*interval)
		buf = p.AppendSnapshot(buf[:0])
		for _, s := range buf {
			if s.Answered != seen[s.Peer] {
				seen[s.Peer] = s.Answered
				rtts = append(rtts, s.RTT)
			}
		}
	}
	return rtts, cpuTime() - before, time.Since(began)
}

func cpuTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// playPeers runs the seven until standard input ends.
func playPeers(t *testing.T, text string) {
	var every int64
	if err := json.Unmarshal([]byte(text), &every); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, n := range measured()[1:] {
		p := measuredProber(t, n.ID, time.Duration(every))
		wg.Go(func() { _ = p.Run(ctx) })
	}
	_, _ = os.Stdin.Read(make([]byte, 1))
	cancel()
	wg.Wait()
}
