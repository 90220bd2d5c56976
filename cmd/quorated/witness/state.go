package witness

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/secret"
	wire "github.com/quorate/quorate/membership/witness"
)

// Limits of what is kept.
const (
	MaxClusters = 64
	maxTokens   = 64
	maxFile     = 256 << 10
)

// DefaultPort is where a witness listens.
const DefaultPort = 21062

// DefaultState is the state directory: of the system, or, without root, of the user.
func DefaultState() string {
	if os.Geteuid() == 0 {
		return "/var/lib/quorate-witness"
	}
	if d := os.Getenv("STATE_DIRECTORY"); d != "" { // of a systemd unit
		first, _, _ := strings.Cut(d, ":")
		return first
	}
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "quorate-witness"
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "quorate-witness")
}

// enrolment is what a cluster said of itself.
type enrolment struct {
	Cluster     string              `json:"cluster"`
	ClusterID   string              `json:"cluster_id"`
	Authorities [][]byte            `json:"authorities"`
	Nodes       []membership.NodeID `json:"nodes"`
	Interval    time.Duration       `json:"interval"`
	DeadAfter   time.Duration       `json:"dead_after"`
	Self        membership.NodeID   `json:"self,omitempty"` // the witness's id there; 0: not told yet
	Token       string              `json:"token"`          // digest of the one it came with
	At          time.Time           `json:"at"`
}

// state is the directory.
type state struct{ dir string }

func openState(dir string) (state, error) {
	for _, d := range []string{dir, filepath.Join(dir, "tokens"), filepath.Join(dir, "clusters")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return state{}, fmt.Errorf("state directory of the witness: %w: name another with --state", err)
		}
	}
	return state{dir}, nil
}

// lock keeps a second process away.
func (s state) lock() (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another quorated --witness works in %s: end it, or name another directory with --state", s.dir), f.Close())
	}
	return f, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return os.ReadFile(path)
}

type tokenFile struct {
	Expires time.Time `json:"expires"`
}

func (s state) tokenPath(digest string) string { return filepath.Join(s.dir, "tokens", digest) }

// addToken keeps the digest of a token, and forgets those whose time is over.
func (s state) addToken(t wire.Token, now time.Time) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "tokens"))
	if err != nil {
		return err
	}
	left := 0
	for _, e := range entries {
		path := s.tokenPath(e.Name())
		if b, err := readFile(path); err == nil {
			var f tokenFile
			if json.Unmarshal(b, &f) == nil && now.Before(f.Expires) {
				left++
				continue
			}
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if left >= maxTokens {
		return fmt.Errorf("%d tokens wait to be used: wait until they end, or remove them from %s", left, filepath.Join(s.dir, "tokens"))
	}
	b, err := json.Marshal(tokenFile{t.Expires})
	if err != nil {
		return err
	}
	return wire.WriteFile(s.tokenPath(t.Digest()), b)
}

// claim uses a token up. A second claim of it fails.
func (s state) claim(digest string, now time.Time) error {
	no := func(why string) error {
		return wire.Refusal{Text: why + ": make another on the witness with `quorated --witness token`"}
	}
	b, err := readFile(s.tokenPath(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return no("this token was used already, or is of another witness")
	}
	if err != nil {
		return no("the token cannot be looked up")
	}
	var f tokenFile
	if err := json.Unmarshal(b, &f); err != nil {
		return no("the token cannot be looked up")
	}
	if err := os.Remove(s.tokenPath(digest)); err != nil {
		return no("this token was used already")
	}
	if err := secret.SyncDir(filepath.Join(s.dir, "tokens")); err != nil {
		return no("the token cannot be noted as used")
	}
	if !now.Before(f.Expires) {
		return no("this token was good until " + f.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

func (s state) clusterDir(id string) string { return filepath.Join(s.dir, "clusters", id) }

// save keeps an enrolment.
func (s state) save(e enrolment) error {
	dir := s.clusterDir(e.ClusterID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	if err := wire.WriteFile(filepath.Join(dir, "enrolment.json"), b); err != nil {
		return err
	}
	return secret.SyncDir(filepath.Dir(dir))
}

// load reads all enrolments, by the cluster's name. One that cannot be read is an error of
// its own, and keeps no other away.
func (s state) load() (all []enrolment, bad []error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "clusters"))
	if err != nil {
		return nil, []error{err}
	}
	for _, entry := range entries {
		path := filepath.Join(s.clusterDir(entry.Name()), "enrolment.json")
		b, err := readFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was never enrolled to the end
		}
		var e enrolment
		if err == nil {
			e, err = parseEnrolment(b)
		}
		if err == nil && e.ClusterID != entry.Name() {
			err = errors.New("it is of another cluster")
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("%s: %w: restore it, or `quorated --witness forget %s` and add the witness anew there", path, err, entry.Name()))
			continue
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b enrolment) int { return strings.Compare(a.Cluster+" "+a.ClusterID, b.Cluster+" "+b.ClusterID) })
	return all, bad
}

// parseEnrolment reads what save wrote.
func parseEnrolment(b []byte) (enrolment, error) {
	var e enrolment
	if err := json.Unmarshal(b, &e); err != nil {
		return e, err
	}
	if e.Self != 0 && !e.Self.IsWitness() || e.Interval <= 0 || e.DeadAfter <= 0 || len(e.Nodes) == 0 {
		return e, errors.New("it makes no sense")
	}
	_, err := wire.Roots(e.Authorities)
	return e, err
}

// forget removes a cluster with all that was kept for it.
func (s state) forget(id string) error {
	if id == "" || strings.ContainsAny(id, "/\\") || id[0] == '.' {
		return fmt.Errorf("%q is no id of a cluster: see `quorated --witness list`", id)
	}
	if _, err := os.Stat(s.clusterDir(id)); err != nil {
		return fmt.Errorf("no cluster %s is enrolled here: see `quorated --witness list`", id)
	}
	return os.RemoveAll(s.clusterDir(id))
}
