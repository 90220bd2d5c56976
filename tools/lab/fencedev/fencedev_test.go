package fencedev

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a machine that counts what is done to it.
type fake struct {
	mu      sync.Mutex
	on      bool
	offs    int
	offFail error
}

func (f *fake) PowerOff(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.offs++
	if f.offFail == nil {
		f.on = false
	}
	return f.offFail
}

func (f *fake) PowerOn(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = true
	return nil
}

func (f *fake) Powered() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.on
}

func newSwitch(t *testing.T) (*Switch, *fake) {
	m := &fake{on: true}
	s := New(map[int]Machine{3: m})
	t.Cleanup(s.Close)
	return s, m
}

func TestHonest(t *testing.T) {
	s, m := newSwitch(t)
	for _, c := range []struct {
		a  Action
		on bool
	}{{Status, true}, {Off, false}, {Off, false}, {Status, false}, {On, true}, {Reboot, true}} {
		if on, err := s.Do(t.Context(), "lab", "x", 3, c.a); on != c.on || err != nil {
			t.Errorf("%s: %v, %v", c.a, on, err)
		}
	}
	if m.offs != 3 || len(s.Log()) != 4 {
		t.Errorf("%d offs, log %+v", m.offs, s.Log())
	}
	if _, err := s.Do(t.Context(), "lab", "x", 4, Off); !errors.Is(err, ErrPlug) {
		t.Error(err)
	}
	if _, err := s.Do(t.Context(), "lab", "x", 3, "dance"); !errors.Is(err, ErrAction) {
		t.Error(err)
	}
}

func TestOffThatFails(t *testing.T) {
	s, m := newSwitch(t)
	m.offFail = errors.New("not frozen")
	for _, a := range []Action{Off, Reboot} {
		if on, err := s.Do(t.Context(), "lab", "x", 3, a); err == nil || on || !m.on {
			t.Errorf("%s: %v, %v", a, on, err)
		}
	}
	if r := s.Log()[0]; r.Err == "" || r.Done.IsZero() {
		t.Errorf("%+v", r)
	}
}

func TestMisbehaviour(t *testing.T) {
	s, m := newSwitch(t)
	s.Misbehave(3, Fault{Mode: Fail})
	if _, err := s.Do(t.Context(), "lab", "x", 3, Off); !errors.Is(err, ErrFault) || !m.on {
		t.Error(err)
	}
	s.Misbehave(3, Fault{Mode: Lie})
	for _, a := range []Action{Off, Status} {
		if on, err := s.Do(t.Context(), "lab", "x", 3, a); on || err != nil || !m.on {
			t.Errorf("lie, %s: %v, %v", a, on, err)
		}
	}
	s.Misbehave(3, Fault{Mode: Hang})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Do(ctx, "lab", "x", 3, Off); !errors.Is(err, context.DeadlineExceeded) || !m.on {
		t.Error(err)
	}
	s.Misbehave(3, Fault{Mode: Slow, Delay: 30 * time.Millisecond})
	begin := time.Now()
	if on, err := s.Do(t.Context(), "lab", "x", 3, Off); on || err != nil || m.on || time.Since(begin) < 30*time.Millisecond {
		t.Errorf("slow: %v, %v", on, err)
	}
	if m.offs != 1 {
		t.Errorf("%d offs", m.offs)
	}
	s.Misbehave(3, Fault{Mode: Hang})
	time.AfterFunc(20*time.Millisecond, s.Close)
	if _, err := s.Do(t.Context(), "lab", "x", 3, Off); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestModes(t *testing.T) {
	for m := Honest; m <= Lie; m++ {
		if got, err := ParseMode(m.String()); got != m || err != nil {
			t.Errorf("%v: %v, %v", m, got, err)
		}
	}
	if _, err := ParseMode("x"); err == nil || Mode(9).String() != "Mode(9)" {
		t.Error("an unknown mode passes")
	}
}

func TestWait(t *testing.T) {
	s, _ := newSwitch(t)
	time.AfterFunc(10*time.Millisecond, func() { s.Do(context.Background(), "lab", "x", 3, Off) })
	r, err := s.Wait(t.Context(), func(r Record) bool { return r.Action == Off && !r.Done.IsZero() })
	if err != nil || r.Plug != 3 || r.Done.Before(r.Asked) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestLines(t *testing.T) {
	s, m := newSwitch(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.ServeLines(l) }()
	for _, c := range [][2]string{
		{"status 3", "ok on\n"}, {"off node3", "ok off\n"}, {"status 3", "ok off\n"}, {"on 3", "ok on\n"},
		{"list", "3,node3\nok\n"}, {"off", "error want: ACTION PLUG [VIA]\n"}, {"off x", "error x: not a plug\n"},
		{"off 4", "error 4: no such plug\n"},
	} {
		conn, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, c[0]+"\n")
		b, err := io.ReadAll(conn)
		conn.Close()
		if string(b) != c[1] || err != nil {
			t.Errorf("%s: %q, %v", c[0], b, err)
		}
	}
	if m.offs != 1 {
		t.Errorf("%d offs", m.offs)
	}
	l.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRedfish(t *testing.T) {
	s, m := newSwitch(t)
	srv := httptest.NewServer(s.Redfish())
	defer srv.Close()
	call := func(method, path, body string, auth bool) (int, map[string]any) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if auth {
			req.SetBasicAuth(User, Password)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var v map[string]any
		b, _ := io.ReadAll(resp.Body)
		if len(bytes.TrimSpace(b)) > 0 {
			if err := json.Unmarshal(b, &v); err != nil {
				t.Errorf("%s %s: %q", method, path, b)
			}
		}
		return resp.StatusCode, v
	}
	if c, _ := call("GET", "/redfish/v1", "", false); c != 401 {
		t.Errorf("no password: %d", c)
	}
	if c, v := call("GET", "/redfish/v1", "", true); c != 200 || v["Systems"].(map[string]any)["@odata.id"] != "/redfish/v1/Systems" {
		t.Errorf("root: %d %v", c, v)
	}
	if c, v := call("GET", "/redfish/v1/Systems", "", true); c != 200 || len(v["Members"].([]any)) != 1 {
		t.Errorf("systems: %d %v", c, v)
	}
	_, v := call("GET", "/redfish/v1/Systems/3", "", true)
	target := v["Actions"].(map[string]any)["#ComputerSystem.Reset"].(map[string]any)["target"].(string)
	if v["PowerState"] != "On" {
		t.Errorf("%v", v)
	}
	if c, _ := call("POST", target, `{"ResetType":"ForceOff"}`, true); c != 204 || m.on {
		t.Errorf("off: %d", c)
	}
	if _, v := call("GET", "/redfish/v1/Systems/3", "", true); v["PowerState"] != "Off" {
		t.Errorf("%v", v)
	}
	if c, _ := call("POST", target, `{"ResetType":"Dance"}`, true); c != 400 {
		t.Errorf("dance: %d", c)
	}
	if c, _ := call("GET", "/redfish/v1/Systems/4", "", true); c != 404 {
		t.Errorf("no such system: %d", c)
	}
	s.Misbehave(3, Fault{Mode: Fail})
	if c, _ := call("POST", target, `{"ResetType":"On"}`, true); c != 500 || m.on {
		t.Errorf("fail: %d", c)
	}
}

func TestCertificate(t *testing.T) {
	if c, err := Certificate(net.IPv4(10, 78, 0, 1)); err != nil || len(c.Certificate) != 1 {
		t.Error(err)
	}
}
