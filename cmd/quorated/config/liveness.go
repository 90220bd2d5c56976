package config

import (
	"time"

	"github.com/quorate/quorate/membership"
)

// Bounds of explicit times.
const (
	minInterval = 5 * time.Millisecond
	maxInterval = 10 * time.Second
	maxDead     = time.Minute
	// minAnswers is how many probes must go unanswered before a peer is suspect.
	minAnswers = 3
)

// Profile returns the times of a named profile: fast, lan, safe or vm.
//
//	fast  10 ms /  40 ms  short wires, nothing else on them
//	lan   38 ms / 190 ms  bare metal, two links: with the agreement on it, a view within 200 ms
//	safe 400 ms /   2 s   anything that bonds, bridges or spanning tree may freeze for a second
//	vm     1 s  /  10 s   guests that are migrated live or snapshotted
func Profile(name string) (membership.Timing, bool) {
	times := map[string][2]time.Duration{
		"fast": {10 * time.Millisecond, 40 * time.Millisecond},
		"lan":  {38 * time.Millisecond, 190 * time.Millisecond},
		"safe": {400 * time.Millisecond, 2 * time.Second},
		"vm":   {time.Second, 10 * time.Second},
	}
	t, ok := times[name]
	if !ok {
		return membership.Timing{}, false
	}
	return membership.Timing{
		Profile: name, Interval: t[0], DeadAfter: t[1], LinkSettle: t[1] + 2*t[0],
		StallLimit: 10 * time.Second, RecoveryStall: 3 * time.Second,
	}, true
}

func (p *parser) liveness(t *table, c *Config) {
	profile := t.oneOf("profile", "auto", "auto", "fast", "lan", "safe", "vm")
	c.ProfileWhy = "chosen in the configuration"
	if c.Auto = profile == "auto"; c.Auto {
		profile = "safe" // on every node, whatever it is: see docs/design.md
		c.ProfileWhy = "auto: safe, because bonds, bridges and virtual machines may freeze a healthy path for a second; while quorated runs, `quorate status` says which nodes are fit for lan"
	}
	tm, _ := Profile(profile)
	was := tm
	tm.Interval = t.dur("interval", tm.Interval, minInterval, maxInterval)
	tm.DeadAfter = t.dur("dead_after", tm.DeadAfter, minAnswers*minInterval, maxDead)
	tm.StallLimit = t.dur("stall_limit", tm.StallLimit, time.Second, 10*time.Minute)
	tm.RecoveryStall = t.dur("recovery_stall", min(tm.RecoveryStall, tm.StallLimit), 500*time.Millisecond, 10*time.Minute)
	tm.LinkSettle = tm.DeadAfter + 2*tm.Interval
	if tm != was {
		c.ProfileWhy += "; some times are set one by one"
	}
	p.timing(t, tm)
	c.Timing = tm
	c.Reflector = t.oneOf("reflector", DefaultReflector, DefaultReflector, "native", "generic", "off")
	c.PathLimit = t.dur("path_limit", 15*time.Second, 5*time.Second, 10*time.Minute)
	t.done()
}

// timing refuses times that cannot work together.
func (p *parser) timing(t *table, tm membership.Timing) {
	if tm.DeadAfter < minAnswers*tm.Interval {
		key := "dead_after"
		if _, ok := t.m[key]; !ok {
			key = "interval"
		}
		t.fault(key, `dead_after %s is less than %d intervals of %s, so one lost packet could kill a healthy node: write dead_after = "%s" or more, or interval = "%s" or less`,
			membership.Short(tm.DeadAfter), minAnswers, membership.Short(tm.Interval), membership.Short(minAnswers*tm.Interval), membership.Short((tm.DeadAfter / minAnswers).Truncate(time.Millisecond)))
	}
	if tm.StallLimit < tm.DeadAfter {
		t.fault("stall_limit", `stall_limit %s is less than dead_after %s: a busy node must not be shot sooner than a dead one: write stall_limit = "%s" or more`,
			membership.Short(tm.StallLimit), membership.Short(tm.DeadAfter), membership.Short(tm.DeadAfter))
	}
	if tm.RecoveryStall > tm.StallLimit {
		t.fault("recovery_stall", `recovery_stall %s is more than stall_limit %s: write recovery_stall = "%s" or less`,
			membership.Short(tm.RecoveryStall), membership.Short(tm.StallLimit), membership.Short(tm.StallLimit))
	}
	if tm.RecoveryStall < minAnswers*tm.Interval {
		t.fault("recovery_stall", `recovery_stall %s is less than %d intervals of %s and could not be told from one lost packet: write recovery_stall = "%s" or more`,
			membership.Short(tm.RecoveryStall), minAnswers, membership.Short(tm.Interval), membership.Short(minAnswers*tm.Interval))
	}
}
