package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/quorate/quorate/membership"
)

// maxAnswer is the largest line that a client takes, in bytes.
const maxAnswer = 64 << 20

// Client asks one daemon. It is not safe for concurrent use.
type Client struct {
	path  string
	conn  net.Conn // made by Dial for the first request; nil afterwards
	limit time.Duration
}

// Dial connects to the daemon's socket. The error is ErrDown when nobody
// listens there, and os.ErrPermission when the caller may not connect.
func Dial(path string) (*Client, error) {
	conn, err := dial(path)
	if err != nil {
		return nil, err
	}
	return &Client{path: path, conn: conn, limit: answerLimit}, nil
}

func dial(path string) (net.Conn, error) {
	conn, err := net.DialTimeout("unix", path, 5*time.Second)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return nil, &OpError{"connect to", path, fmt.Errorf("%w: see `systemctl status quorated`, start it with `systemctl start quorated`", ErrDown)}
	case errors.Is(err, os.ErrPermission):
		return nil, &OpError{"connect to", path, fmt.Errorf("%w: use sudo, or join group %s to look without changing", os.ErrPermission, Group)}
	case errors.Is(err, syscall.EAGAIN):
		return nil, &OpError{"connect to", path, fmt.Errorf("%w: it takes no more connections: it stands still, or has too much to do; see `systemctl status quorated`", ErrDown)}
	}
	return nil, &OpError{"connect to", path, fmt.Errorf("%w: %w", ErrDown, err)}
}

// Close drops an unused connection.
func (c *Client) Close() error {
	if c.conn == nil {
		return nil
	}
	conn := c.conn
	c.conn = nil
	return conn.Close()
}

// send opens a connection for one request. The connection is closed by end, or
// when ctx ends.
func (c *Client) send(ctx context.Context, req Request) (br *bufio.Reader, end func(), err error) {
	conn := c.conn
	c.conn = nil
	if conn == nil {
		if conn, err = dial(c.path); err != nil {
			return nil, nil, err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	end = func() { stop(); _ = conn.Close() }
	w := &waiter{conn: conn, path: c.path, limit: c.limit, looks: !Changes(req.Command) && !req.Follow}
	data, err := json.Marshal(req)
	if err == nil {
		// An early refusal (too many clients) is an answer already on its way.
		_, err = w.Write(append(data, '\n'))
		if errors.Is(err, syscall.EPIPE) {
			err = nil
		}
	}
	if err != nil {
		end()
		return nil, nil, c.gone(ctx, err)
	}
	return bufio.NewReader(w), end, nil
}

func (c *Client) gone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, ErrDown) {
		return &OpError{"talk to", c.path, err}
	}
	return &OpError{"talk to", c.path, fmt.Errorf("%w: the connection broke before the answer (%w); see `systemctl status quorated`", ErrDown, err)}
}

// Call asks and returns the answer. A refusal is an ErrRefused that wraps the
// daemon's words; the answer is returned with it. A daemon that stands still is an
// ErrDown after ten seconds; what takes longer by design is waited for as long as the
// daemon answers other questions.
func (c *Client) Call(ctx context.Context, req Request) (Response, error) {
	br, end, err := c.send(ctx, req)
	if err != nil {
		return Response{}, err
	}
	defer end()
	line, err := readLine(br, maxAnswer)
	if err != nil {
		return Response{}, c.gone(ctx, err)
	}
	var r Response
	if err := json.Unmarshal(line, &r); err != nil {
		return Response{}, &OpError{"understand the answer of", c.path, fmt.Errorf("%w: use the quorate of the same version as quorated", err)}
	}
	if r.Error != "" {
		return r, refusal(r.Error)
	}
	return r, nil
}

// Follow calls f with each event after since, until f returns an error, ctx
// ends, or the daemon ends the stream or stands still.
func (c *Client) Follow(ctx context.Context, since uint64, f func(membership.Event) error) error {
	br, end, err := c.send(ctx, Request{Command: "events", Since: since, Follow: true})
	if err != nil {
		return err
	}
	defer end()
	for {
		line, err := readLine(br, maxAnswer)
		if err != nil {
			return c.gone(ctx, err)
		}
		var e struct {
			membership.Event
			Error string `json:"error"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return &OpError{"understand an event of", c.path, err}
		}
		if e.Error != "" {
			return refusal(e.Error)
		}
		if err := f(e.Event); err != nil {
			return err
		}
	}
}

// refusal is an error that shows the daemon's words and is an ErrRefused.
type refusal string

func (r refusal) Error() string        { return string(r) }
func (r refusal) Is(target error) bool { return target == ErrRefused }

var errLong = errors.New("the line is too long")

// readLine reads a line of at most limit bytes.
func readLine(br *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := br.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > limit {
			return nil, errLong
		}
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) && len(line) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}
