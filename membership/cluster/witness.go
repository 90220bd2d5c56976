package cluster

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/quorate/quorate/membership"
)

// Witness adds the cluster's witness, or takes it away: an operator's wish. ID is 0
// for one that is added, which gets the next id on delivery.
type Witness struct {
	ID          membership.NodeID `json:"id"`
	Name        string            `json:"name,omitempty"`
	Addr        string            `json:"addr,omitempty"`        // host:port, as the nodes dial it
	Fingerprint string            `json:"fingerprint,omitempty"` // SHA-256 of its certificate, lower-case hex
	Who         string            `json:"who,omitempty"`
	Remove      bool              `json:"remove,omitempty"`
}

var (
	witnessName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	witnessPrint = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Check says what is wrong with a witness that is to be added.
func (w Witness) Check() error {
	switch {
	case !witnessName.MatchString(w.Name):
		return fmt.Errorf("the witness's name %q is not 1 to 63 characters of A-Z a-z 0-9 . _ -, a letter or digit first", w.Name)
	case !hostPort(w.Addr):
		return fmt.Errorf("the witness's address %q is not host:port", w.Addr)
	case !witnessPrint.MatchString(w.Fingerprint):
		return errors.New("the fingerprint of the witness's certificate is not 64 hexadecimal digits")
	}
	return nil
}

// hostPort says whether an address is a name or number and a port; an IPv6 address
// stands in brackets.
func hostPort(addr string) bool {
	i := strings.LastIndexByte(addr, ':')
	if i < 1 || len(addr) > 300 || strings.ContainsAny(addr, " \t\r\n/") {
		return false
	}
	host := addr[:i]
	port, err := strconv.ParseUint(addr[i+1:], 10, 16)
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
		return err == nil && port > 0 && strings.Contains(host, ":") && !strings.ContainsAny(host, "[]")
	}
	return err == nil && port > 0 && !strings.ContainsAny(host, ":[]")
}

// witness adds or removes the witness. It makes a view: whether the members are a
// quorum depends on it. A removed witness's id is never given again.
func (s *State) witness(w *Witness, quorum Quorum) Outcome {
	switch {
	case w.Remove && (s.Witness == nil || s.Witness.ID != w.ID):
		return refuse("there is no witness of id %d", w.ID)
	case w.Remove:
		s.Witness = nil
		return s.become(s.next(), quorum)
	case s.Witness != nil:
		return refuse("there is a witness already: %s at %s", s.Witness.Name, s.Witness.Addr)
	case s.Witnesses >= 1<<20:
		return refuse("no more ids for witnesses")
	}
	if err := w.Check(); err != nil {
		return refuse("%v", err)
	}
	added := *w
	added.ID = membership.FirstWitness + membership.NodeID(s.Witnesses)
	s.Witnesses++
	s.Witness = &added
	return s.become(s.next(), quorum)
}
