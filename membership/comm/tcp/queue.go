package tcp

// chunkSize is how much is gathered for one write. A longer message has a chunk
// of its own.
const chunkSize = 64 << 10

// queue is frames to be written, gathered in chunks. Adding copies the message
// and never what was added before.
type queue struct {
	chunks [][]byte
	size   int // bytes, headers included
	count  int // messages
}

func (q *queue) add(data []byte) {
	need := headerSize + len(data)
	last := len(q.chunks) - 1
	if last < 0 || cap(q.chunks[last])-len(q.chunks[last]) < need {
		q.chunks = append(q.chunks, make([]byte, 0, max(chunkSize, need)))
		last++
	}
	q.chunks[last] = appendFrame(q.chunks[last], frameMessage, data)
	q.size += need
	q.count++
}

// reset empties the queue and keeps the first chunk's memory, so that a quiet
// connection does not allocate.
func (q *queue) reset() {
	q.size, q.count = 0, 0
	if len(q.chunks) == 0 {
		return
	}
	first := q.chunks[0][:0]
	clear(q.chunks)
	q.chunks = q.chunks[:0]
	if cap(first) == chunkSize {
		q.chunks = append(q.chunks, first)
	}
}
