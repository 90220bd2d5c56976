package main

import (
	"flag"
	"fmt"
	"net"
	"time"
)

// udp is the smallest thing that tells whether one node hears another.
func udp(args []string) error {
	fs := flag.NewFlagSet("udp", flag.ContinueOnError)
	count := fs.Int("count", 3, "send: datagrams, 100 ms apart")
	limit := fs.Duration("limit", 5*time.Second, "recv: how long to wait")
	pos, err := parse(fs, args, 2)
	if err != nil {
		return err
	}
	if pos[0] == "recv" {
		return udpRecv(pos[1], *limit)
	}
	if pos[0] != "send" {
		return fmt.Errorf("%s: send or recv", pos[0])
	}
	c, err := net.Dial("udp4", pos[1])
	if err != nil {
		return err
	}
	defer c.Close()
	for range *count {
		c.Write([]byte("hello")) // nobody may be listening: the receiver tells
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

func udpRecv(addr string, limit time.Duration) error {
	c, err := net.ListenPacket("udp4", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("ready")
	c.SetReadDeadline(time.Now().Add(limit))
	var buf [64]byte
	n, from, err := c.ReadFrom(buf[:])
	if err != nil {
		return err
	}
	fmt.Println(string(buf[:n]), "from", from)
	return nil
}
