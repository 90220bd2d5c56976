package cluster

import (
	"slices"

	"github.com/quorate/quorate/membership"
)

func (s *State) fenceStart(index uint64, f *FenceStart) Outcome {
	c := s.Case(f.Victim)
	switch {
	case c == nil || !c.Open():
		return refuse("%v needs no proof", f.Victim)
	case c.Job != nil:
		return refuse("node %d is fencing it", c.Job.Actor.Node)
	case f.Attempt != c.Attempts+1:
		return refuse("attempt %d, expected %d", f.Attempt, c.Attempts+1)
	case !s.Member(f.Actor):
		return refuse("%v is not a member", f.Actor)
	}
	c.Attempts = f.Attempt
	c.Job = &Job{FenceStart: *f, Index: index}
	j := *c.Job
	return Outcome{Started: &j}
}

func (s *State) fenceEnd(index uint64, f *FenceEnd, wall string) Outcome {
	c := s.Case(f.Victim)
	if c == nil || c.Job == nil || c.Job.Attempt != f.Attempt {
		return refuse("no such job")
	}
	j := *c.Job
	c.Job = nil
	s.record(Record{Victim: c.Victim, How: "agent", Actor: j.Actor.Node, OK: f.OK, Wall: wall, Index: index, End: *f})
	out := Outcome{Ended: []Job{j}}
	if f.OK {
		return s.prove(out, c, Proof{How: "agent", Actor: j.Actor.Node, Level: f.Level, Index: index})
	}
	c.Lied = max(c.Lied, f.Lied)
	s.failed(c, j.Actor.Node, f.Err)
	return out
}

// failed notes that an actor could not do it; when all have failed a new round begins.
func (s *State) failed(c *Case, actor membership.NodeID, why string) {
	c.LastErr = why
	if !slices.Contains(c.Tried, actor) {
		c.Tried = append(c.Tried, actor)
	}
	if s.Actor(c) == 0 {
		c.Tried, c.Round = nil, c.Round+1
	}
}

func (s *State) fenceExpire(index uint64, f *FenceExpire, wall string) Outcome {
	c := s.Case(f.Victim)
	if c == nil || c.Job == nil || c.Job.Attempt != f.Attempt {
		return refuse("no such job")
	}
	if s.Acting(c) {
		return refuse("its actor %v is evicted and not proved gone", c.Job.Actor)
	}
	return Outcome{Ended: []Job{s.abandon(index, c, wall, "nothing was heard of the job within its lease")}}
}

// Acting says that the actor of a case's job is evicted, and that nothing proves
// that it will not wake up and go on. No time ends such a job: a machine that
// stood still, and its clock perhaps with it, does not know how late it is.
func (s *State) Acting(c *Case) bool {
	if c.Job == nil {
		return false
	}
	a := s.Case(c.Job.Actor)
	return a != nil && a.Open()
}

func (s *State) abandon(index uint64, c *Case, wall, why string) Job {
	j := *c.Job
	c.Job = nil
	s.record(Record{Victim: c.Victim, How: "agent", Actor: j.Actor.Node, Wall: wall, Index: index,
		End: FenceEnd{Victim: c.Victim, Attempt: j.Attempt, Err: why}})
	s.failed(c, j.Actor.Node, why)
	return j
}

func (s *State) newBoot(index uint64, n *NewBoot, wall string) Outcome {
	rec := s.Node(n.Victim.Node)
	if rec == nil || rec.Machine == "" || rec.Machine != n.Machine {
		return refuse("node %d's new boot is of another machine: it needs an agent's proof or `quorate fence ack`", n.Victim.Node)
	}
	if n.Victim.Boot == n.Boot {
		return refuse("%v is that boot", n.Victim)
	}
	return s.proveCase(index, n.Victim, wall, Proof{How: "new-boot", Index: index})
}

func (s *State) fenceNeed(f *FenceNeed) Outcome {
	c := s.Case(f.Victim)
	switch {
	case c == nil || c.Proof != nil:
		return refuse("%v is not evicted, or is proved gone", f.Victim)
	case c.Needed:
		return refuse("proof of %v is needed already", f.Victim)
	}
	c.Needed = true
	return Outcome{}
}

func (s *State) fenceAck(index uint64, a *FenceAck, wall string) Outcome {
	return s.proveCase(index, a.Victim, wall, Proof{How: "manual", Who: a.Who, Index: index})
}

func (s *State) proveCase(index uint64, victim membership.Incarnation, wall string, p Proof) Outcome {
	c := s.Case(victim)
	if c == nil || !c.Open() {
		return refuse("nothing of %v waits for proof", victim)
	}
	s.record(Record{Victim: c.Victim, How: p.How, Who: p.Who, OK: true, Wall: wall, Index: index})
	return s.prove(Outcome{}, c, p)
}

// prove closes a case, and the jobs whose actor it was: an actor that is gone runs nothing.
func (s *State) prove(out Outcome, c *Case, p Proof) Outcome {
	c.Proof = &p
	s.refence(c.Victim)
	out.Proved = append(out.Proved, c.Victim)
	for k := range s.Cases {
		o := &s.Cases[k]
		if o.Job != nil && o.Job.Actor == c.Victim {
			out.Ended = append(out.Ended, s.abandon(p.Index, o, "", "its actor is gone"))
		}
	}
	return out
}
