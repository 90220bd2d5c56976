package raft

import pb "go.etcd.io/raft/v3/raftpb"

// Ballot is a vote that was cast: it has left the voter, so it was durable before.
// A voter casts one a term (S2), also when it lost its log and has another id.
type Ballot struct {
	Term  uint64
	Voter uint64 // raft id
	For   uint64 // raft id of the candidate
}

// ReadBallot reads the vote out of a message between two groups, for checkers; ok
// is false for all other messages, refusals and pre-votes among them.
func ReadBallot(data []byte) (b Ballot, ok bool) {
	kind, body, err := envelope(data)
	if err != nil || kind != kindRaft {
		return Ballot{}, false
	}
	m, err := parseRaft(body)
	if err != nil || m.GetType() != pb.MsgVoteResp || m.GetReject() {
		return Ballot{}, false
	}
	return Ballot{Term: m.GetTerm(), Voter: m.GetFrom(), For: m.GetTo()}, true
}
