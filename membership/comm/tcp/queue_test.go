package tcp

import (
	"bufio"
	"bytes"
	"testing"
)

func TestQueue(t *testing.T) {
	var q queue
	for round := range 3 {
		var want [][]byte
		for i := range 400 {
			data := bytes.Repeat([]byte{byte(i)}, i*i%3000)
			if i == 200 {
				data = make([]byte, 5*chunkSize)
			}
			q.add(data)
			want = append(want, data)
		}
		if q.count != len(want) {
			t.Errorf("count %d", q.count)
		}
		all := bytes.Join(q.chunks, nil)
		if len(all) != q.size {
			t.Errorf("size %d of %d", q.size, len(all))
		}
		r := bufio.NewReader(bytes.NewReader(all))
		for i, w := range want {
			kind, body, err := readFrame(r, 1<<20)
			if err != nil || kind != frameMessage || !bytes.Equal(body, w) {
				t.Fatalf("round %d message %d: %d bytes, %v", round, i, len(body), err)
			}
		}
		q.reset()
		if q.size != 0 || q.count != 0 || len(bytes.Join(q.chunks, nil)) != 0 {
			t.Errorf("not empty: %+v", q)
		}
	}
	(&queue{}).reset()
}

func TestQuietQueueDoesNotAllocate(t *testing.T) {
	var q queue
	data := make([]byte, 64)
	if n := testing.AllocsPerRun(100, func() {
		for range 50 {
			q.add(data)
		}
		q.reset()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestQueueKeepsNoBigChunk(t *testing.T) {
	var q queue
	q.add(make([]byte, 10*chunkSize))
	q.reset()
	if len(q.chunks) != 0 {
		t.Errorf("%d bytes are kept", cap(q.chunks[0]))
	}
}
