package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/quorate/quorate/membership"
)

// Limits of the socket.
const (
	// MaxRequest is the largest request, in bytes, with its line end.
	MaxRequest = 64 << 10
	// MaxChange is the same for root, whose request may carry a configuration.
	MaxChange = 2 << 20

	maxClients     = 64
	maxUsers       = 48               // of them, so that root finds a place
	followQueue    = 1024             // events that a follower may be behind
	requestTimeout = 5 * time.Second  // to send the whole request
	writeTimeout   = 30 * time.Second // to take an answer or one event
	drainTimeout   = time.Second      // for answers under way when the server ends
)

// Handler answers requests. Its methods are called from several goroutines.
type Handler interface {
	// Handle answers one request that passed the checks of this package: a known
	// command, and uid 0 when it changes something. ctx ends when the client
	// hangs up or the server ends.
	Handle(ctx context.Context, req Request) Response
	// Events returns the events after since, and a channel of all later ones,
	// without a gap or a double. The server takes from live at once. Closing
	// live ends the stream; cancel is called once and must not block.
	Events(since uint64) (backlog []membership.Event, live <-chan membership.Event, cancel func())
}

// Serve answers clients until ctx ends, and returns when every goroutine of it
// is gone. It closes the listener. Answers that are being written when ctx ends
// have a second to get out.
func Serve(ctx context.Context, l net.Listener, h Handler) error {
	s := &server{h: h, identify: identify, queue: followQueue, write: writeTimeout, conns: map[net.Conn]bool{}}
	return s.serve(ctx, l)
}

type server struct {
	h        Handler
	identify func(net.Conn) (Peer, error)
	queue    int
	write    time.Duration

	mu    sync.Mutex
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

func (s *server) serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	err := s.accept(ctx, l)
	ended := ctx.Err() != nil
	cancel()
	_ = l.Close()
	hurry := time.AfterFunc(drainTimeout, s.closeAll)
	s.wg.Wait()
	hurry.Stop()
	if ended {
		return nil
	}
	return &OpError{Op: "accept on", Path: l.Addr().String(), Err: err}
}

func (s *server) accept(ctx context.Context, l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			var ne net.Error
			if ctx.Err() == nil && errors.As(err, &ne) && ne.Timeout() {
				continue
			}
			if ctx.Err() == nil && exhausted(err) {
				// Out of descriptors or memory: wait for some to come back.
				select {
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
				continue
			}
			return err
		}
		who := caller{}
		who.Peer, who.err = s.identify(conn)
		if limit := who.limit(); !s.enter(conn, limit) {
			reply(conn, Response{Error: fmt.Sprintf("%d clients are connected already: end some (look for `quorate events --follow`), then try again", limit)}, time.Second)
			_ = conn.Close()
			continue
		}
		s.wg.Go(func() {
			defer s.leave(conn)
			s.client(ctx, conn, who)
		})
	}
}

// caller is who is at the other end, or why that cannot be told.
type caller struct {
	Peer
	err error
}

// limit is how many may be connected for this one to be let in. Those who may
// only look leave places to whoever has to do something.
func (c caller) limit() int {
	if c.err != nil || c.UID != 0 {
		return maxUsers
	}
	return maxClients
}

func (s *server) enter(c net.Conn, limit int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= limit {
		return false
	}
	s.conns[c] = true
	return true
}

func (s *server) leave(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	_ = c.Close()
}

func (s *server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

// client serves one connection: one request, one answer or one stream.
func (s *server) client(ctx context.Context, conn net.Conn, who caller) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	req, rest, err := s.request(ctx, conn, who)
	if err != nil {
		if !errors.Is(err, io.EOF) && ctx.Err() == nil {
			reply(conn, Response{Error: err.Error()}, s.write)
		}
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	var gone sync.WaitGroup
	gone.Go(func() {
		_, _ = io.Copy(io.Discard, rest) // returns when the client hangs up, or at the deadline below
		cancel()
	})
	if req.Command == "events" && req.Follow {
		s.follow(ctx, conn, req.Since)
	} else {
		reply(conn, s.h.Handle(ctx, req), s.write)
	}
	_ = conn.SetReadDeadline(time.Now())
	gone.Wait()
}

// request reads and checks the request, and stamps it with who asks.
func (s *server) request(ctx context.Context, conn net.Conn, who caller) (Request, io.Reader, error) {
	if err := conn.SetReadDeadline(time.Now().Add(requestTimeout)); err != nil {
		return Request{}, nil, err
	}
	if ctx.Err() != nil {
		return Request{}, nil, ctx.Err()
	}
	br, limit := bufio.NewReaderSize(conn, 4096), MaxRequest
	if who.err == nil && who.UID == 0 {
		limit = MaxChange
	}
	line, err := readLine(br, limit)
	if errors.Is(err, errLong) {
		return Request{}, nil, fmt.Errorf("request is larger than %d bytes", limit)
	}
	if err != nil {
		return Request{}, nil, err
	}
	req, err := ParseRequest(line)
	if err != nil {
		return Request{}, nil, err
	}
	if who.err != nil {
		return Request{}, nil, fmt.Errorf("cannot tell who asks: %w", who.err)
	}
	if Changes(req.Command) && who.UID != 0 {
		return Request{}, nil, fmt.Errorf("%s needs root, and you are uid %d: try again with sudo", req.Command, who.UID)
	}
	req.Who = who.String()
	if ctx.Err() == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	return req, br, err
}

// streamEnd is the last line of a stream that the server ends.
type streamEnd struct {
	Error string `json:"error"`
}

// follow sends the backlog and then each event as it comes. A client that is
// more than the queue behind is told so and dropped; the daemon never waits.
func (s *server) follow(ctx context.Context, conn net.Conn, since uint64) {
	backlog, live, cancel := s.h.Events(since)
	queue := make(chan membership.Event, s.queue)
	why := "" // written before queue is closed, read after
	ctx, stop := context.WithCancel(ctx)
	var pump sync.WaitGroup
	pump.Go(func() {
		defer close(queue)
		why = forward(ctx, live, queue)
		cancel()
	})
	defer pump.Wait()
	defer stop()
	w := bufio.NewWriter(conn)
	for _, e := range backlog {
		if s.line(conn, w, e) != nil {
			return
		}
	}
	for {
		if len(queue) == 0 && w.Flush() != nil {
			return
		}
		e, ok := <-queue
		if !ok {
			if why != "" && s.line(conn, w, streamEnd{why}) == nil {
				_ = w.Flush() // the client may be gone: nobody to tell
			}
			return
		}
		if s.line(conn, w, e) != nil {
			return
		}
	}
}

// forward moves events without ever blocking the source, and returns what to
// tell the client at its end.
func forward(ctx context.Context, live <-chan membership.Event, queue chan<- membership.Event) string {
	var last uint64
	for {
		select {
		case <-ctx.Done():
			return ""
		case e, ok := <-live:
			if !ok {
				return fmt.Sprintf("the daemon ended the stream after event %d: follow again with --since %d", last, last)
			}
			select {
			case queue <- e:
				last = e.Seq
			default:
				return fmt.Sprintf("you read too slowly: dropped after event %d: follow again with --since %d", last, last)
			}
		}
	}
}

func (s *server) line(conn net.Conn, w *bufio.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(s.write)); err != nil {
		return err
	}
	_, err = w.Write(append(data, '\n'))
	return err
}

// reply writes one answer. A client that is gone is nobody's loss.
func reply(conn net.Conn, r Response, timeout time.Duration) {
	data, err := json.Marshal(r)
	if err != nil {
		data, _ = json.Marshal(Response{Error: "cannot write the answer: " + err.Error()})
	}
	if conn.SetWriteDeadline(time.Now().Add(timeout)) == nil {
		_, _ = conn.Write(append(data, '\n'))
	}
}
