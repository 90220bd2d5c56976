package node

import (
	"encoding/json"
	"testing"
)

// FuzzDecodeHello: what is accepted has what the machine counts on, and comes out
// of its own encoding as it went in.
func FuzzDecodeHello(f *testing.F) {
	f.Add([]byte(`{"protocol":1,"boot":"b","instance":7,"digests":{"a":"b"},"holding":["gfs"],"listed":[1,2]}`))
	f.Add([]byte(`{"boot":"b"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := DecodeHello(b)
		if err != nil {
			return
		}
		if h.Boot == "" || h.Instance == 0 || len(b) > maxHello {
			t.Fatalf("accepted: %+v of %d bytes", h, len(b))
		}
		again, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeHello(again); err != nil && len(again) <= maxHello {
			t.Fatalf("%s became %s: %v", b, again, err)
		}
	})
}

// FuzzDecodeRow: no row can stop the machine, and what is accepted can be told on.
func FuzzDecodeRow(f *testing.F) {
	f.Add([]byte(`{"From":1,"Links":[{"Peer":2,"Age":5}]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRow(b)
		if err != nil {
			return
		}
		if len(b) > maxHello {
			t.Fatalf("%d bytes are accepted", len(b))
		}
		if _, err := DecodeRow(encodeRow(r)); err != nil && len(encodeRow(r)) <= maxHello {
			t.Fatalf("%s: %v", b, err)
		}
	})
}
