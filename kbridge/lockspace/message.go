package lockspace

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/quorate/quorate/membership"
)

// ErrMessage is an entry of this consumer that cannot be read.
var ErrMessage = errors.New("lockspace entry of the log cannot be read by this version; upgrade quorated on this node")

// Message is one entry of this consumer. Exactly one field is set.
type Message struct {
	Join      *Join      `json:"join,omitempty"`
	Leave     *Leave     `json:"leave,omitempty"`
	Stopped   []StopAck  `json:"stopped,omitempty"` // all the lockspaces that the sender stopped (S22)
	Recovered *Recovered `json:"recovered,omitempty"`
	Refuse    *Refuse    `json:"refuse,omitempty"`
	Restart   *Restart   `json:"restart,omitempty"`
}

// Join asks for the sender to become a member. Recovers is as in Member.
type Join struct {
	Lockspace string `json:"ls"`
	Recovers  bool   `json:"recovers,omitempty"`
}

// Leave asks for the sender to be taken out. Recover asks that the others treat
// it as lost (the kernel's RELEASE_RECOVER), without fencing: see Withdrawn. Epoch
// is that of the membership that it leaves: an entry that is ordered late must not
// take out a node that has joined again meanwhile.
type Leave struct {
	Lockspace string `json:"ls"`
	Epoch     uint64 `json:"epoch"`
	Recover   bool   `json:"recover,omitempty"`
}

// StopAck says that the sender's kernel answered control=0 for a change.
type StopAck struct {
	Lockspace string `json:"ls"`
	Change    uint64 `json:"change"`
}

// Recovered says that the sender's part of the kernel's recovery is done.
type Recovered struct {
	Lockspace string `json:"ls"`
	Change    uint64 `json:"change"`
}

// Refuse takes a joiner out again whose recovery did not finish.
type Refuse struct {
	Lockspace string                 `json:"ls"`
	Change    uint64                 `json:"change"`
	Joiner    membership.Incarnation `json:"joiner"`
	Why       string                 `json:"why"`
}

// Restart asks for a change with the same members: after a glitch that stopped
// the sender's kernel, or an error of its recovery.
type Restart struct {
	Lockspace string `json:"ls"`
	Change    uint64 `json:"change"` // the newest change that the sender knew
	Why       string `json:"why"`
}

// Encode gives the bytes that are ordered.
func (m Message) Encode() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic("lockspace: a message that cannot be encoded: " + err.Error())
	}
	return b
}

// Decode reads an entry; every error is an ErrMessage.
func Decode(b []byte) (Message, error) {
	var m Message
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%w: %v", ErrMessage, err)
	}
	n := 0
	for _, set := range []bool{m.Join != nil, m.Leave != nil, len(m.Stopped) > 0, m.Recovered != nil, m.Refuse != nil, m.Restart != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return m, fmt.Errorf("%w: %d messages in one", ErrMessage, n)
	}
	return m, nil
}
