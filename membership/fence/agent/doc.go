// Package agent cuts nodes off with unmodified fence-agents programs.
//
// # One job
//
// The victim's devices are tried by level, lowest first. Within a level every
// device must succeed, in the order of the configuration; the first failure
// ends the level. The first level that succeeds is the proof; a level that is said to
// have lied before (membership.FenceJob.After) is tried after those above it.
//
// One device means: the program is started with key=value lines on its standard
// input, action=off, and must exit with 0. Then it is asked for action=status,
// which must say off (exit 2). Neither counts from a program that ended without
// having read all of its options: it cannot know what it was asked. A device that reported success and then says that
// the victim is on lies (safety rule S13), and proves nothing. Options may say
// action=reboot for programs that know no off; its success is believed, because
// the machine is on again when it could be asked. So is every success of a device
// with SkipVerify, whose agent asks the device itself until the power is off.
//
// # What bounds a run
//
// The job's deadline is checked on CLOCK_BOOTTIME just before each program that
// cuts is started, and again just after: a late one is killed at once (S12). It is of
// the first one, with the delay of its device; for each further one it is later by what
// those before it may take (membership.Device.Lease), so that a level which hangs takes
// no time from the next. Where the job's time is over (membership.FenceJob.Until) no
// further one is started either, and one that runs is killed: of two nodes that fence
// each other in turns it is the other one's turn then. The questions after an off together
// take no longer than the device's timeout.
//
// Every program has the device's timeout, and is killed when the context ends or the
// daemon dies. So has one that cannot be executed because the disk that it is on hangs,
// and it holds up neither the daemon nor other programs: a process of its own starts
// them all (package launch), and checks the bounds again as the last thing before exec
// and the first after it. When that process dies, what it started dies and has failed.
//
// A program runs in a process group of its own, and where the kernel lets it (root) in
// a pid namespace of its own, so that what it started dies with it, whatever it did to
// its groups and sessions. It inherits no descriptor but its three standard ones, no
// environment but PATH and LC_ALL, and a working directory of /.
//
// # Warm agents
//
// Starting an agent takes longer than most devices need, so Prepare starts those
// of a victim's first level, two where the status is asked for too, and tells them
// nothing. Agents read their options from standard input until it ends before they
// do anything; one that acts without would cut its node off at every Monitor as
// well. Fence uses what waits: the point of no return is then the first byte of the
// options, the deadline is checked just before it and again before their end. What
// has died, or is not the program installed now, is replaced by a cold start.
//
// The input is a socket, not a pipe, so a program that opens /dev/stdin by its name
// cannot read it; it is started cold when it has failed.
//
// A warm agent never sees the end of its input without options. Release, the time
// of WithWarmFor, the end of a Fence of that victim and Close kill it first, and
// when the daemon is killed, and the process that starts agents with it, a holder within the agent's namespace keeps its input
// open until the kernel has killed it. Should that holder alone be killed and then
// the daemon, the agent sees an empty input, which names no victim; neither its
// arguments nor its environment do.
//
// # Secrets
//
// An option with _file after the name of a secret one (password_file) names a file
// with its value: one line, of root's or of who runs this, and nobody else's to read. It
// is read just before the agent is given its options, which is the only place where the
// value goes: what the agent prints of it is removed like that of other secrets.
//
// # Questions
//
// Monitor and Ask run agents with actions that change nothing, after ordinary programs.
// Unfence runs them with action=on.
//
// # What is kept of it
//
// The last 4 KiB of what it printed, made printable, without the values of secret
// options: as they are, written for a URL, JSON, a shell, C, XML or HTML, wholly or in
// parts, and in base64 or hex, alone or with others before them, as user:password. Those
// of less than four bytes are found in base64 alone or after a login of the device, and
// not in hex. Nor is the password of any URL kept. What an agent cuts by line ends,
// compresses or enciphers is not recognised. Options are never logged.
package agent
