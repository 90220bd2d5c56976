package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/quorate/quorate/membership"
)

// Bounds of the replicated configuration.
const (
	// MaxConfig is the largest text of a configuration, in bytes.
	MaxConfig = 256 << 10
	// MaxPast is how many former versions are kept, for a rollback.
	MaxPast = 8
	// maxConfigAsks bounds Configured.Asks.
	maxConfigAsks = 8
)

// Configured is the configuration that the members agreed on, and the change of
// it that is under way. There is none before the first entry of a new cluster.
type Configured struct {
	Now  Config   `json:"now,omitzero"`
	Past []Config `json:"past,omitempty"` // oldest first, at most MaxPast
	// Nodes are those that the text in force configures, ascending.
	Nodes  []membership.NodeID `json:"nodes,omitempty"`
	Change *ConfigChange       `json:"change,omitempty"`
	// Asks are the newest changes that were proposed, oldest first: a late copy of
	// one begins nothing.
	Asks []string `json:"asks,omitempty"`
}

// Config is one version of the configuration.
type Config struct {
	Version uint64 `json:"version"` // from 1
	Text    string `json:"text"`    // without secrets
	Digest  string `json:"digest"`  // of the text
	Who     string `json:"who,omitempty"`
	Wall    string `json:"wall,omitempty"`
	Index   uint64 `json:"index"` // of the entry that brought it into force
}

// ConfigChange is a proposed version. It is in force when every member has found
// that it can work by it, and never if one has not.
type ConfigChange struct {
	ConfigPropose
	Wall  string                   `json:"wall,omitempty"`
	Index uint64                   `json:"index"` // since when it is under way
	Yes   []membership.Incarnation `json:"yes,omitempty"`
}

// ConfigFirst is the configuration of a new cluster: the text that all nodes began with.
type ConfigFirst struct {
	Text  string              `json:"text"`
	Nodes []membership.NodeID `json:"nodes"`
	Who   string              `json:"who,omitempty"`
}

// ConfigPropose asks every member whether it can work by a text.
type ConfigPropose struct {
	Ask   string              `json:"ask"`  // names the request, so that one that is proposed twice counts once
	Base  uint64              `json:"base"` // the version that the text was made from
	Text  string              `json:"text"`
	Nodes []membership.NodeID `json:"nodes"` // that the text configures, ascending
	// Replace are nodes that will be other machines, at other addresses perhaps.
	Replace []membership.NodeID `json:"replace,omitempty"`
	Who     string              `json:"who,omitempty"`
}

// ConfigVote is a member's own word. A no ends the change.
type ConfigVote struct {
	Ask   string                 `json:"ask"`
	Voter membership.Incarnation `json:"voter"`
	Why   string                 `json:"why,omitempty"` // why not; empty: yes
}

// ConfigCommit brings a change into force.
type ConfigCommit struct {
	Ask  string `json:"ask"`
	View uint64 `json:"view"` // the view that the decision was made in
}

// ConfigAbort gives a change up.
type ConfigAbort struct {
	Ask string `json:"ask"`
	Why string `json:"why"`
}

// ConfigAborted is a change that came to nothing.
type ConfigAborted struct {
	Change ConfigChange
	Why    string
	By     membership.NodeID // the member that refused; 0: it was given up
}

// ConfigDigest names a text.
func ConfigDigest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// ErrConfigSize is a text that is no entry of the log.
var ErrConfigSize = errors.New("the configuration is too large to be agreed on: shorten its comments")

// ConfigFits says whether a text can be agreed on, by its size and by that of an entry
// with it: some characters take six bytes there.
func ConfigFits(text string) error {
	size := len(Command{ConfigPropose: &ConfigPropose{Text: text}}.Encode())
	if len(text) > MaxConfig || size > MaxCommand-maxRest {
		return fmt.Errorf("%w (%d bytes, %d in the log; at most %d and %d)", ErrConfigSize, len(text), size, MaxConfig, MaxCommand-maxRest)
	}
	return nil
}

// maxRest is for what an entry has besides the text.
const maxRest = 16 << 10

// configure executes the entries about the configuration.
func (s *State) configure(index uint64, c Command) Outcome {
	switch {
	case c.ConfigFirst != nil:
		return s.configFirst(index, c.ConfigFirst, c.Wall)
	case c.ConfigPropose != nil:
		return s.configPropose(index, c.ConfigPropose, c.Wall)
	case c.ConfigVote != nil:
		return s.configVote(c.ConfigVote)
	case c.ConfigCommit != nil:
		return s.configCommit(index, c.ConfigCommit)
	case c.ConfigAbort != nil:
		return s.configAbort(c.ConfigAbort)
	}
	return Outcome{}
}

func (s *State) configFirst(index uint64, f *ConfigFirst, wall string) Outcome {
	if v := s.Conf.Now.Version; v != 0 {
		return refuse("version %d is in force", v)
	}
	if f.Text == "" || len(f.Text) > MaxConfig {
		return refuse("a configuration of %d bytes: 1 to %d", len(f.Text), MaxConfig)
	}
	s.Conf.Now = Config{Version: 1, Text: f.Text, Digest: ConfigDigest(f.Text), Who: f.Who, Wall: wall, Index: index}
	s.Conf.Nodes = slices.Clone(f.Nodes)
	now := s.Conf.Now
	return Outcome{Configured: &now}
}

func (s *State) configPropose(index uint64, p *ConfigPropose, wall string) Outcome {
	conf := &s.Conf
	switch {
	case slices.Contains(conf.Asks, p.Ask):
		return refuse("that was proposed already")
	case conf.Change != nil:
		return refuse("another change is under way, by %s: try again when it is done", conf.Change.Who)
	case p.Base != conf.Now.Version || p.Base == 0:
		return refuse("it was made from version %d, and %d is in force: look at `quorate config diff` and apply it again", p.Base, conf.Now.Version)
	case p.Text == "" || len(p.Text) > MaxConfig:
		return refuse("a configuration of %d bytes: 1 to %d are possible", len(p.Text), MaxConfig)
	case p.Text == conf.Now.Text && len(p.Replace) == 0:
		return refuse("that is version %d, which is in force", conf.Now.Version)
	}
	if why := s.ConfigObstacle(p); why != "" {
		return refuse("%s", why)
	}
	conf.Asks = append(conf.Asks, p.Ask)
	conf.Asks = slices.Clone(conf.Asks[max(0, len(conf.Asks)-maxConfigAsks):])
	conf.Change = &ConfigChange{ConfigPropose: *p, Wall: wall, Index: index}
	c := *conf.Change
	return Outcome{Proposed: &c}
}

// ConfigObstacle says what of the members and evictions speaks against a change
// of the nodes; empty: nothing.
func (s *State) ConfigObstacle(p *ConfigPropose) string {
	for _, id := range s.Conf.Nodes {
		replaced := slices.Contains(p.Replace, id)
		if slices.Contains(p.Nodes, id) && !replaced {
			continue
		}
		what := "removed"
		if replaced {
			what = "replaced"
		}
		if _, ok := s.View.Find(id); ok {
			return fmt.Sprintf("node %d is a member and cannot be %s: run `quorate node drain` on it first", id, what)
		}
		if s.Blocked(id) != nil {
			return fmt.Sprintf("node %d was evicted and is not proved gone: it cannot be %s before its fencing has succeeded; see `quorate why`", id, what)
		}
	}
	for _, id := range s.Conf.Nodes {
		if u := s.Unfence(id); u != nil && u.Running != nil && (slices.Contains(p.Replace, id) || !slices.Contains(p.Nodes, id)) {
			return fmt.Sprintf("node %d is being switched on by node %d: try again when that is done", id, u.Running.Actor.Node)
		}
	}
	for _, id := range p.Replace {
		if !slices.Contains(s.Conf.Nodes, id) || !slices.Contains(p.Nodes, id) {
			return fmt.Sprintf("node %d is not configured and cannot be replaced: run `quorate node add`", id)
		}
	}
	for _, id := range p.Nodes {
		if slices.Contains(s.Conf.Nodes, id) {
			continue
		}
		for k := range s.Cases {
			if c := &s.Cases[k]; c.Open() {
				return fmt.Sprintf("no node is added while node %d is evicted and not proved gone; see `quorate why`", c.Victim.Node)
			}
		}
	}
	return ""
}

func (s *State) configVote(v *ConfigVote) Outcome {
	c := s.Conf.Change
	switch {
	case c == nil || c.Ask != v.Ask:
		return refuse("no such change is under way")
	case !s.Member(v.Voter):
		return refuse("%v is not a member", v.Voter)
	case v.Why != "":
		return s.configEnd(v.Why, v.Voter.Node)
	case slices.Contains(c.Yes, v.Voter):
		return refuse("it has said so already")
	}
	c.Yes = append(c.Yes, v.Voter)
	return Outcome{}
}

// Awaited are the members that have not said yet whether they can work by the
// change that is under way.
func (s *State) Awaited() []membership.NodeID {
	var out []membership.NodeID
	for _, m := range s.View.Members {
		if s.Conf.Change != nil && !slices.Contains(s.Conf.Change.Yes, m) {
			out = append(out, m.Node)
		}
	}
	return out
}

func (s *State) configCommit(index uint64, e *ConfigCommit) Outcome {
	c := s.Conf.Change
	switch {
	case c == nil || c.Ask != e.Ask:
		return refuse("no such change is under way")
	case e.View != s.View.Number:
		return refuse("decided in view %d, now %d", e.View, s.View.Number)
	case len(s.View.Members) == 0 || len(s.Awaited()) > 0:
		return refuse("nodes %v have not said yes", s.Awaited())
	}
	if why := s.ConfigObstacle(&c.ConfigPropose); why != "" {
		return refuse("%s", why)
	}
	conf := &s.Conf
	conf.Past = append(conf.Past, conf.Now)
	conf.Past = slices.Clone(conf.Past[max(0, len(conf.Past)-MaxPast):])
	conf.Now = Config{Version: c.Base + 1, Text: c.Text, Digest: ConfigDigest(c.Text), Who: c.Who, Wall: c.Wall, Index: index}
	conf.Nodes, conf.Change = slices.Clone(c.Nodes), nil
	s.forget(c)
	now := conf.Now
	return Outcome{Configured: &now, Ask: c.Ask}
}

// forget drops what was agreed of nodes that are configured no more, and which
// machine a replaced one was.
func (s *State) forget(c *ConfigChange) {
	gone := func(id membership.NodeID) bool { return !slices.Contains(c.Nodes, id) }
	s.Nodes = slices.DeleteFunc(s.Nodes, func(r NodeRecord) bool { return gone(r.Node) })
	s.Cases = slices.DeleteFunc(s.Cases, func(k Case) bool { return gone(k.Victim.Node) })
	if gone := membership.Without(s.Electorate, c.Nodes...); len(gone) > 0 {
		s.uncount(s.Electorate, gone)
	}
	for _, id := range c.Replace {
		if r := s.Node(id); r != nil {
			r.Machine = ""
		}
	}
}

func (s *State) configAbort(e *ConfigAbort) Outcome {
	if c := s.Conf.Change; c == nil || c.Ask != e.Ask {
		return refuse("no such change is under way")
	}
	return s.configEnd(e.Why, 0)
}

func (s *State) configEnd(why string, by membership.NodeID) Outcome {
	a := ConfigAborted{Change: *s.Conf.Change, Why: why, By: by}
	s.Conf.Change = nil
	return Outcome{Aborted: &a, Ask: a.Change.Ask}
}

// ConfigVersion returns a version that is in force or kept.
func (s *State) ConfigVersion(v uint64) (Config, bool) {
	if s.Conf.Now.Version == v {
		return s.Conf.Now, v != 0
	}
	for _, c := range s.Conf.Past {
		if c.Version == v {
			return c, true
		}
	}
	return Config{}, false
}

// Recount makes a view of the same members when the rule for a quorum has changed
// and says otherwise of them.
func (s *State) Recount(quorum Quorum) Outcome {
	if len(s.View.Members) == 0 || quorum(s.View.IDs()) == s.View.Quorate {
		return Outcome{}
	}
	return s.become(s.next(), quorum)
}
