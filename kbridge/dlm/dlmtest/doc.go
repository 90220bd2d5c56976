// Package dlmtest is a kernel's DLM in memory, as far as the driver of package
// dlm can see it: configfs, sysfs, uevents, the misc devices and connection
// attempts.
//
// It behaves as fs/dlm does where that matters: a create waits for event_done
// and for its first recovery; event_done that nobody waits for is latched;
// control=1 always succeeds and samples configfs; a start that is overtaken by a
// stop before recoverd took it up is lost with what it sampled; since Linux 6.18
// a member that is neither configured nor known to be gone fails the recovery; a
// departure is clean only if the comms entry is the one of the member's
// beginning. What a kernel would swallow or regret it records as a Violation.
//
// Tests make it slow or deaf: HoldStop, HoldComm, Manual, LoseUevents.
package dlmtest
