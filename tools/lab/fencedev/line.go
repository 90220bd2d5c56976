package fencedev

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LinePort is the usual TCP port of the line protocol.
const LinePort = 7079

// ServeLines answers the line protocol until l is closed, and returns when every
// connection has ended. A connection carries one request line, "ACTION PLUG", with an action of
// this package or "list", and gets lines back: "ok on", "ok off" or "error TEXT". A plug
// with a word after it was asked for through another front end of that name. One
// with an a or b after its number is one of the two feeds of a machine (feeds.go).
// The answer to list is a line "PLUG,nodePLUG" for each plug, then "ok".
func (s *Switch) ServeLines(l net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		wg.Go(func() { s.line(c) })
	}
}

func (s *Switch) line(c net.Conn) {
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	req, err := bufio.NewReader(io.LimitReader(c, 256)).ReadString('\n')
	if err != nil {
		return
	}
	c.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go func() { // a client that goes away ends what it asked for
		io.Copy(io.Discard, c)
		cancel(errors.New("the client went away"))
	}()
	fmt.Fprint(c, s.answer(ctx, c.RemoteAddr().String(), req))
}

func (s *Switch) answer(ctx context.Context, from, req string) string {
	f := strings.Fields(req)
	if len(f) == 1 && f[0] == "list" {
		var b strings.Builder
		for _, p := range s.Plugs() {
			fmt.Fprintf(&b, "%d,node%d\n", p, p)
		}
		return b.String() + "ok\n"
	}
	via := "lab"
	if len(f) == 3 {
		via, f = f[2], f[:2]
	}
	if len(f) != 2 {
		return "error want: ACTION PLUG [VIA]\n"
	}
	name, feed := strings.TrimPrefix(f[1], "node"), ""
	if n := strings.TrimRight(name, "ab"); len(n) == len(name)-1 {
		name, feed = n, name[len(n):]
	}
	plug, err := strconv.Atoi(name)
	if err != nil {
		return fmt.Sprintf("error %s: not a plug\n", f[1])
	}
	on, err := s.DoFeed(ctx, via, from, plug, feed, Action(f[0]))
	var a antic
	switch {
	case errors.As(err, &a):
		return a.lines(on)
	case err != nil:
		return fmt.Sprintf("error %v\n", err)
	}
	return outcome(on)
}

func outcome(on bool) string {
	if on {
		return "ok on\n"
	}
	return "ok off\n"
}
