package main

import (
	"bufio"
	"encoding/xml"
	"io"
	"net"
	"strings"
	"testing"
)

// device answers every request by a table.
func device(t *testing.T, answers map[string]string) options {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			req, _ := bufio.NewReader(c).ReadString('\n')
			if a, ok := answers[strings.TrimSpace(req)]; ok {
				io.WriteString(c, a)
				c.Close()
			} // otherwise it hangs
		}
	}()
	host, port, _ := net.SplitHostPort(l.Addr().String())
	return options{"ip": host, "ipport": port, "plug": "3", "power_timeout": "0.3"}
}

func TestExitStatus(t *testing.T) {
	for _, c := range []struct {
		action, req, answer string
		want                int
	}{
		{"off", "off 3", "ok off\n", 0},
		{"off", "off 3", "ok on\n", 1}, // success of off is the word off, nothing else
		{"off", "off 3", "ok\n", 1},
		{"off", "off 3", "", 1},
		{"off", "off 3", "error told to fail\n", 1},
		{"off", "no answer", "", 1},
		{"on", "on 3", "ok on\n", 0},
		{"", "reboot 3", "ok on\n", 0},
		{"status", "status 3", "ok on\n", 0},
		{"status", "status 3", "ok off\n", 2},
		{"status", "status 3", "ok maybe\n", 1},
		{"off", "off 3", "say 00ff0a\nok off\n", 0},
		{"off", "off 3", "say 00ff0a\nerror no sense in it\n", 1},
		{"monitor", "list", "1,node1\nok\n", 0},
		{"list", "list", "1,node1\nok\n", 0},
		{"dance", "", "", 1},
	} {
		o := device(t, map[string]string{c.req: c.answer})
		o["action"] = c.action
		got, err := run(o, io.Discard)
		if got != c.want || (err != nil) != (c.want == 1) {
			t.Errorf("%s, device says %q: %d, %v; want %d", c.action, c.answer, got, err, c.want)
		}
	}
}

func TestInput(t *testing.T) {
	o, err := parseInput(strings.NewReader("# comment\n\n option=off \nipaddr=10.0.0.1\nport=3\nnodename=x\nkey=a=b\n"))
	if err != nil || o["action"] != "off" || o["ip"] != "10.0.0.1" || o["plug"] != "3" || o["nodename"] != "x" || o["key"] != "a=b" {
		t.Errorf("%v, %v", o, err)
	}
	if _, err := parseInput(strings.NewReader("nonsense\n")); err == nil {
		t.Error("nonsense passes")
	}
	o, err = parseArgs([]string{"-o", "status", "--ip=10.0.0.1", "--plug", "2"})
	if err != nil || o["action"] != "status" || o["ip"] != "10.0.0.1" || o["plug"] != "2" {
		t.Errorf("%v, %v", o, err)
	}
	for _, bad := range [][]string{{"off"}, {"-o"}, {"--"}} {
		if _, err := parseArgs(bad); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestMissing(t *testing.T) {
	for _, o := range []options{{"action": "off", "ip": "127.0.0.1"}, {"action": "off", "plug": "3"}} {
		if code, err := run(o, io.Discard); code != 1 || err == nil {
			t.Errorf("%v: %d, %v", o, code, err)
		}
	}
}

func TestMetadataIsXML(t *testing.T) {
	var v struct {
		Name    string `xml:"name,attr"`
		Actions []struct {
			Name string `xml:"name,attr"`
		} `xml:"actions>action"`
	}
	if err := xml.Unmarshal([]byte(metadata), &v); err != nil || v.Name != "fence_lab" || len(v.Actions) != 9 {
		t.Errorf("%+v, %v", v, err)
	}
}
