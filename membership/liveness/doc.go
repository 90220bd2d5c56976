// Package liveness says who is suspect and who is convicted, from what all
// members see of each other, and what a group may act on when its leader is gone.
//
// Machine is pure: it is stepped with the time and one input and returns
// effects. It reads no clock; the caller answers each Deadline with an Observed,
// the prober's newest snapshot, and all judgments are made in that step. Other
// inputs are kept, and make the deadline come at once when they matter.
//
// # Words
//
// An age is the time since a peer's kernel last answered. A peer is silent when
// its age is dead_after on every link, and cut when it is so on link 0, the path
// of the DLM's address (Config.AnyLink: on every link). A member that is either
// is suspect, here and nowhere else. A row is what one node says of all others:
// ages, never booleans, each dated by its arrival. A row counts for dead_after
// and two intervals. The row of a node that is itself silent is void.
//
// # From silence to a verdict
//
//  1. A member's age crosses dead_after: Suspected, and this node's row goes out
//     at once, then every one and a half intervals as long as anything is in doubt.
//  2. Who receives a row with a new accusation looks, and answers with its own: at
//     once if the accused has answered it since an interval and a half, else when
//     it does, or by its own suspicion, which is no later and is news.
//  3. All members whose rows are not void say silent, and with this node they are
//     a quorum: Convicted, silent. There is no tolerance: each observer has itself
//     looked for dead_after in vain. The probes of different nodes have different
//     phases, so the last observer is at most an interval and an eighth behind the
//     first. Its row makes the verdict.
//  4. One of them still hears it: nobody is convicted for silence. When no link
//     between members was lost or came back for link_settle, the largest fully
//     connected quorate set is chosen, and who is outside is Convicted, unlinked.
//     Equal sets: more lockspaces, then the lowest node id. A link that changes
//     all the time puts this off to three times link_settle and no further.
//  5. A row that does not come, although its sender's kernel answers, is waited
//     for until link_settle and then void. No verdict is made by less than a
//     quorum of those who could be asked.
//
// A daemon that stands still while its kernel answers is convicted as in 3, with
// stall_limit, or recovery_stall while a lockspace change waits for it. A leader
// is replaced, which is not an eviction, as soon as a quorum without it finds it
// silent, or finds that its daemon has stood still for three heartbeats.
//
// A verdict may name this node itself: a leader outside the chosen set commits
// that set first and hands over then. A verdict can be taken back until the
// eviction is delivered; a new view takes it back silently.
//
// # Holds
//
// A member whose freeze was announced is not suspected before the end of that,
// and then only after a further dead_after. Until then it is convicted of
// nothing, it counts as linked with everybody, and as connected when this node
// judges its own quorum. Rows say its ages as they are. A leader is replaced in a
// hold as it is without: that is not an eviction. A maintenance is a hold of all.
//
// # Own pauses
//
// The machine asks to look every interval or quarter of dead_after, whichever is
// longer. If it is called later than that by max(interval, 20 ms), a quarter of
// dead_after at most, it was paused: the time since its last look counts against
// nobody, rows from before are void, and nothing is judged for two intervals. A
// shorter pause, and the probe before it, are less than dead_after.
//
// A prober that stands still while the machine looks is such a pause, too: when no probe
// left for half of dead_after, nobody was asked. That time counts
// against nobody, and as long as it lasts this node's rows say of nobody whether it answers,
// so that the others need not wait for its word. After stall_limit it counts as connected
// with nobody, and the caller lets its progress word stand still, so that the others
// may evict it as they do a daemon that stands still.
//
// # Timelines
//
// A machine dies, or a link, at 0. The numbers are bounds without the time on
// the wire; a probe may come an eighth of an interval late (probe/udp), so a peer's last
// answer may be an interval and an eighth older than its death.
//
//	profile  interval  dead_after | first suspect from, last by | silent: convicted by | unlinked: by
//	fast     10ms      40ms       | 28.75ms  40ms               | 40ms                 | 100ms
//	lan      38ms      190ms      | 147.25ms 190ms              | 190ms                | 456ms
//	safe     400ms     2s         | 1.55s    2s                 | 2s                   | 4.8s
//	vm       1s        10s        | 8.875s   10s                | 10s                  | 22s
//
// To the verdict add one way of a row where the last observer is not the one who
// decides, and to the choice of a set the way of the last row that reports a
// link lost. CheckTiming has the inequalities that make this so: three probes
// fit into dead_after, and link_settle holds dead_after and two intervals, in
// which every node that lives has noticed what there is to notice and has sent
// a row that says so.
package liveness
