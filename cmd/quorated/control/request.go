package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode"
)

// commands are all commands; true: it changes something, or runs programs, and needs uid 0.
var commands = map[string]bool{
	"status": false, "events": false, "why": false, "links": false, "fence-history": false, "version": false, "config-show": false,
	"leave": true, "config-apply": true, "drain": true, "undrain": true, "fence-ack": true, "fence-node": true, "fence-test": true, "init": true, "rejoin": true, "hold": true, "release": true,
	"quorum-override": true, "witness-add": true, "witness-remove": true,
	"maintenance-on": true, "maintenance-off": true,
	"key-rotate": true, "key-switch": true, "key-drop": true, "key-reload": true,
}

// Changes says whether a command changes something, or runs programs. Unknown ones do.
func Changes(command string) bool {
	changes, known := commands[command]
	return changes || !known
}

// ParseRequest parses one line. It is strict: a field that this daemon does not
// know may be the one that makes the request harmless.
func ParseRequest(line []byte) (Request, error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	var r Request
	if err := dec.Decode(&r); err != nil {
		return Request{}, fmt.Errorf("request not understood: %w: use the quorate of the same version as quorated", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Request{}, errors.New("request not understood: more than one value on the line")
	}
	if _, known := commands[r.Command]; !known {
		return Request{}, fmt.Errorf("unknown command %.40q: use the quorate of the same version as quorated", r.Command)
	}
	if r.Node > math.MaxInt32 {
		return Request{}, fmt.Errorf("node id %d is out of range", r.Node)
	}
	if r.Node == 0 && slices.Contains([]string{"fence-ack", "fence-node", "hold", "release", "drain", "undrain"}, r.Command) {
		return Request{}, fmt.Errorf("%s without a node", r.Command)
	}
	if r.Command == "key-drop" && r.Epoch == 0 {
		return Request{}, fmt.Errorf("%s without an epoch", r.Command)
	}
	if len(r.Lockspace) > 64 || strings.ContainsFunc(r.Lockspace, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return Request{}, errors.New("lockspace name is not 1 to 64 printable characters")
	}
	if r.Token != "" && r.Command != "witness-add" || len(r.Token) > 4096 {
		return Request{}, errors.New("witness-add, and nothing else, takes the token of a witness, of at most 4 KiB")
	}
	r.Who = "" // only the server knows
	return r, nil
}
