package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/quorate/quorate/cmd/quorated/control"
)

const wideLinks = `NODE  LINK  ADDRESS        STATE     P50    P99    LOSS  MTU        HEARD   KERNEL  DAEMON  REFLECTOR  USE
beta  0     192.168.100.2  up        0.2ms  0.4ms  0.0%  1500       40ms    40ms    0.2ms   native     dlm,daemons
beta  1     192.168.101.2  degraded  0.2ms  24ms   0.7%  9000 lost  2m 14s  2m 15s  3ms     userspace  spare

DLM-TO  STATE        FROM                 TO                   RTT    RETRANSMITS  UNACKED  SENT-AGAIN
beta    established  192.168.100.1:21064  192.168.100.2:40112  0.3ms  2            700      1

! link 1 to beta (192.168.101.2): packets of 9000 bytes have been lost on the way there for 1m 30s, and short ones arrive: give every interface and switch port on it the same MTU
`

const narrowLinks = `NODE  LINK  ADDRESS        STATE     P50    P99    LOSS  MTU
beta  0     192.168.100.2  up        0.2ms  0.4ms  0.0%  1500
beta  1     192.168.101.2  degraded  0.2ms  24ms   0.7%  9000 lost

NODE  LINK  HEARD   KERNEL  DAEMON  REFLECTOR  USE
beta  0     40ms    40ms    0.2ms   native     dlm,daemons
beta  1     2m 14s  2m 15s  3ms     userspace  spare

DLM-TO  STATE        FROM                 TO
beta    established  192.168.100.1:21064  192.168.100.2:40112

DLM-TO  RTT    RETRANSMITS  UNACKED  SENT-AGAIN
beta    0.3ms  2            700      1

! link 1 to beta (192.168.101.2): packets of 9000 bytes have been lost on the way there for 1m 30s, and short ones arrive: give every interface and switch port on it the same MTU
`

// A terminal of 120 columns, and what is no terminal, has each link in one line; one of 80
// has tables that fit.
func TestLinksFit(t *testing.T) {
	const ms = time.Millisecond
	r := &control.LinksReport{
		Links: []control.LinkStatus{
			{Name: "beta", Addr: "192.168.100.2", State: "up", Probes: 150, P50: ms / 5, P99: 2 * ms / 5, Heard: 40 * ms, Answers: "kernel", ByKernel: 40 * ms, Progress: ms / 5, MTU: 1500, Mode: "native", Stream: true, DLM: true},
			{Name: "beta", Link: 1, Addr: "192.168.101.2", State: "degraded", Probes: 150, Lost: 1, P50: ms / 5, P99: 24 * ms, Heard: 134 * time.Second, Answers: "daemon", ByKernel: 135 * time.Second, Progress: 3 * ms,
				MTU: 9000, LongLost: "there", LongFor: 90 * time.Second, Mode: "userspace", Spare: true},
		},
		DLM: []control.DLMConn{{Name: "beta", Local: "192.168.100.1:21064", Remote: "192.168.100.2:40112", State: "established", RTT: 3 * ms / 10, Retransmits: 2, Unacked: 700, Retries: 1}},
	}
	for width, want := range map[int]string{0: wideLinks, 120: wideLinks, 80: narrowLinks} {
		var out strings.Builder
		if err := (&app{width: width}).printLinks(&out, r); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%d columns:\n%swant\n%s", width, out.String(), want)
		}
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(line) - 1; width > 0 && n > width && !strings.HasPrefix(line, "!") {
				t.Errorf("%d columns in %d: %s", n, width, line)
			}
		}
	}
}
