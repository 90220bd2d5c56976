package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func started(t testing.TB) *Launcher {
	t.Helper()
	l := &Launcher{}
	t.Cleanup(l.Close)
	if err := l.Begin(); err != nil {
		t.Fatal(err)
	}
	return l
}

// of is the process that there is now.
func of(l *Launcher) *running {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// output runs a program to its end.
func output(t testing.TB, l *Launcher, s Spec, extra ...*os.File) (string, unix.WaitStatus, error) {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	j, err := l.Start(s, append([]*os.File{null, w, w}, extra...))
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	status, err := j.Wait()
	text, rerr := io.ReadAll(r)
	if rerr != nil {
		t.Fatal(rerr)
	}
	return string(text), status, err
}

func sh(script string) Spec {
	return Spec{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Dir: "/", Env: []string{"PATH=/usr/bin:/bin", "X=y"}}
}

func TestPrograms(t *testing.T) {
	l := started(t)
	for script, want := range map[string]string{
		"echo $X; pwd; exit 3":                           "y\n/\n exit 3",
		"echo a; echo b >&2":                             "a\nb\n exit 0",
		"kill -KILL $$":                                  " killed",
		"kill -TERM $$":                                  " terminated", // what the launcher ignores is not ignored
		"trap '' TERM; kill -TERM $$; exit 4":            " exit 4",
		"ulimit -Sn":                                     "1024\n exit 0",
		"ls /proc/self/fd | tr '\\n' ' '":                "0 1 2 3  exit 0", // 3 is of the listing
		"[ $(cut -d ' ' -f 5 /proc/self/stat) = $$ ]":    " exit 0",         // its own group
		"grep -c 'SigBlk:.0*$' /proc/self/status":        "1\n exit 0",
		"cut -d ' ' -f 40,41 /proc/self/stat":            "0 0\n exit 0",
		"(sleep 86400.1 & ); exit 5":                     " exit 5", // the rest of its group is killed: else the pipe would not end
		"cat /proc/self/limits | grep -c 'Max locked m'": "1\n exit 0",
	} {
		text, status, err := output(t, l, sh(script))
		got := text + " exit " + fmt.Sprint(status.ExitStatus())
		if status.Signaled() {
			got = text + " " + status.Signal().String()
		}
		if got != want || err != nil {
			t.Errorf("%s: %q, %v", script, got, err)
		}
	}
}

func TestNice(t *testing.T) {
	s := sh("cut -d ' ' -f 19 /proc/self/stat")
	s.Nice = 19
	if text, _, err := output(t, started(t), s); text != "19\n" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

// What is not executed says why.
func TestNotExecuted(t *testing.T) {
	l := started(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	dir, late, soon := sh(""), sh("echo no"), sh("echo yes")
	dir.Dir, late.Before, soon.Before = "/none", 1, boottime()+int64(time.Minute)
	for _, c := range []struct {
		s    Spec
		want error
	}{
		{Spec{Path: "/none", Args: []string{"x"}, Dir: "/"}, syscall.ENOENT},
		{Spec{Path: plain, Args: []string{"x"}, Dir: "/"}, syscall.EACCES},
		{dir, syscall.ENOENT},
		{late, ErrLate},
		{soon, nil},
	} {
		if text, _, err := output(t, l, c.s); !errors.Is(err, c.want) || (text == "yes\n") != (c.want == nil) {
			t.Errorf("%+v: %q, %v", c.s, text, err)
		}
	}
	for _, s := range []Spec{{Path: "/bin/a\x00b", Args: []string{"x"}, Dir: "/"}, {Path: "/bin/\xff", Args: []string{"x"}, Dir: "/"}, sh(strings.Repeat("x", maxMessage))} {
		if _, err := l.Start(s, nil); !errors.Is(err, errMessage) {
			t.Error(err)
		}
	}
}

// A descriptor may have any number, its place among them.
func TestDescriptors(t *testing.T) {
	leak, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0) // to be inherited, says whoever opened it
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	l := started(t)
	var extra []*os.File
	for i := range 8 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(w, i)
		w.Close()
		extra = append(extra, r)
		defer r.Close()
	}
	for _, namespace := range []bool{false, true} {
		if namespace && os.Geteuid() != 0 {
			continue
		}
		s := sh("ls -l /proc/self/fd; cat /proc/self/fd/10; echo; echo $$")
		s.PIDNamespace = namespace
		text, _, err := output(t, l, s, extra...)
		if strings.Contains(text, "passwd") || strings.Contains(text, "socket") || strings.Count(text, " -> pipe:") != 10 || namespace && !strings.HasSuffix(text, "\n1\n") || err != nil {
			t.Errorf("%s, %v", text, err)
		}
	}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", of(l).pid))
	if err != nil {
		t.Fatal(err)
	}
	var has []string
	for _, f := range fds {
		to, _ := os.Readlink(f)
		to, _, _ = strings.Cut(to, ":[")
		if n := filepath.Base(f); n != "2" {
			has = append(has, n+" "+to)
		}
	}
	want := []string{"0 /dev/null", "1 /dev/null", "3 socket"}
	rest := slices.DeleteFunc(slices.Clone(has), func(s string) bool {
		return slices.Contains(want, s) || strings.Contains(s, "anon_inode") || strings.Contains(s, " /sys/fs/cgroup/")
	}) // the runtime's own
	if len(rest) > 0 || len(has) < len(want) {
		t.Errorf("the launcher has %v", has)
	}
}

// It is ordinary where its daemon is not, and has a name.
func TestTheLauncherIsOrdinary(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: real-time priority")
	}
	was := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(was)
	tasks, _ := filepath.Glob("/proc/self/task/*")
	set := func(a unix.SchedAttr) {
		a.Size = unix.SizeofSchedAttr
		for _, x := range tasks {
			var tid int
			_, _ = fmt.Sscan(filepath.Base(x), &tid)
			if err := unix.SchedSetAttr(tid, &a, 0); err != nil && err != unix.ESRCH {
				t.Fatal(err)
			}
		}
	}
	set(unix.SchedAttr{Policy: unix.SCHED_RR, Priority: 1})
	defer set(unix.SchedAttr{Policy: unix.SCHED_NORMAL})
	l := started(t)
	if _, _, err := output(t, l, sh("exit 0")); err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", of(l).pid))
	if err != nil || len(all) == 0 {
		t.Fatal(err)
	}
	for _, x := range all {
		var tid int
		_, _ = fmt.Sscan(x.Name(), &tid)
		if a, err := unix.SchedGetAttr(tid, 0); err == nil && (a.Policy != unix.SCHED_NORMAL || a.Nice != launcherNice) {
			t.Errorf("%+v", a)
		}
	}
	args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", of(l).pid))
	short, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", of(l).pid))
	env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", of(l).pid))
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", of(l).pid))
	if string(args) != Name+"\x00" || string(short) != comm+"\n" || len(env) != 0 || strings.Contains(string(status), "VmLck:\t       0 kB") {
		t.Errorf("%q, %q, environment %q\n%s", args, short, env, status)
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} { // of a terminal, or a shutdown
		_ = syscall.Kill(of(l).pid, s)
	}
	if _, _, err := output(t, l, sh("exit 0")); err != nil {
		t.Error(err)
	}
}

// Many at once do not hold each other up, and each has its own status.
func TestTogether(t *testing.T) {
	l := started(t)
	if _, _, err := output(t, l, sh("exit 0")); err != nil {
		t.Fatal(err)
	}
	ours, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if left, err := os.ReadDir("/proc/self/fd"); err != nil || len(left) > len(ours) {
			t.Errorf("%d descriptors, where there were %d: %v", len(left), len(ours), err)
		}
	}()
	var g sync.WaitGroup
	begin := time.Now()
	for i := range 20 {
		g.Go(func() {
			if text, status, err := output(t, l, sh(fmt.Sprintf("sleep 0.5; echo %d; exit %[1]d", i))); text != fmt.Sprintln(i) || status.ExitStatus() != i || err != nil {
				t.Errorf("%d: %q, %v, %v", i, text, status, err)
			}
		})
	}
	g.Wait()
	if took := time.Since(begin); took > 5*time.Second {
		t.Error(took)
	}
}

func TestKill(t *testing.T) {
	l := started(t)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for i := range 50 { // wherever it is on its way
		j, err := l.Start(sh("sleep 86400.2 & sleep 86400.2"), []*os.File{null, null, null})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 100 * time.Microsecond)
		j.Kill(i%2 == 0)
		if status, err := j.Wait(); err != nil || status.Signal() != syscall.SIGKILL {
			t.Errorf("%v, %v", status, err)
		}
		j.Kill(true) // of nobody
	}
}

// stop has a process stand still. The signal comes to some thread; the others go on for a moment.
func stop(t *testing.T, pid int) {
	t.Helper()
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		running := slices.ContainsFunc(tasks, func(name string) bool {
			b, _ := os.ReadFile(name)
			return !strings.Contains(string(b), ") T ")
		})
		switch {
		case len(tasks) > 0 && !running:
			return
		case time.Now().After(end):
			t.Errorf("process %d does not stop: %q", pid, tasks)
			return
		}
	}
}

// When the launcher is closed, dies or stands still, so it goes for what it runs.
func TestTheEndOfALauncher(t *testing.T) {
	for name, end := range map[string]func(*Launcher, *Job){
		"closed":         func(l *Launcher, _ *Job) { l.Close() },
		"killed":         func(l *Launcher, _ *Job) { _ = syscall.Kill(of(l).pid, syscall.SIGKILL) },
		"stopped":        func(l *Launcher, j *Job) { stop(t, of(l).pid); j.Kill(true) },
		"a wrong answer": func(l *Launcher, _ *Job) { _ = of(l).send(message{Kind: "x", ID: 1}, nil) },
		"its socket":     func(l *Launcher, _ *Job) { _ = of(l).socket.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			lost := make(chan error, 1)
			l := &Launcher{Lost: func(err error) { lost <- err }}
			t.Cleanup(l.Close)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			j, err := l.Start(sh("exec sleep 86400.3"), []*os.File{r, w, w})
			w.Close()
			if err != nil {
				t.Fatal(err)
			}
			<-j.Started()
			end(l, j)
			if name == "stopped" { // it is dead all the same, and not when that is found out
				if _, err := io.ReadAll(r); err != nil {
					t.Error(err)
				}
				select {
				case <-j.Ended():
					t.Error("it ended late")
				default:
				}
			}
			if _, err := j.Wait(); !errors.Is(err, ErrGone) || (name == "stopped") != errors.Is(err, errSlow) {
				t.Error(err)
			}
			if name != "closed" {
				if err := <-lost; !errors.Is(err, ErrGone) {
					t.Error(err)
				}
			}
			if _, err := io.ReadAll(r); err != nil { // it ends when the program is dead
				t.Error(err)
			}
			if _, status, err := output(t, l, sh("exit 9")); err != nil || status.ExitStatus() != 9 {
				t.Errorf("the next one: %v, %v", status, err)
			}
		})
	}
}

// Whoever comes while one dies has another, or its program has failed with it.
func TestStartWhileItDies(t *testing.T) {
	l := started(t)
	for range 30 {
		_ = syscall.Kill(of(l).pid, syscall.SIGKILL)
		for range 3 {
			if _, status, err := output(t, l, sh("exit 9")); !errors.Is(err, ErrGone) && (err != nil || status.ExitStatus() != 9) {
				t.Fatalf("%v, %v", status, err)
			}
		}
	}
}

// One that dies again and again is started again and again, less and less often.
func TestLaunchersThatDieYoung(t *testing.T) {
	lost := make(chan error, 10)
	l := &Launcher{Lost: func(err error) { lost <- err }}
	t.Cleanup(l.Close)
	if err := l.Begin(); err != nil {
		t.Fatal(err)
	}
	var waits []time.Duration
	for range 4 {
		at := time.Now()
		for of(l) == nil {
			if time.Since(at) > 20*time.Second {
				t.Fatalf("none is started any more: after %v", waits)
			}
			time.Sleep(time.Millisecond)
		}
		waits = append(waits, time.Since(at))
		if err := syscall.Kill(of(l).pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-lost
	}
	if waits[1] > soon || waits[2] < soon/2 || waits[3] < waits[2]+soon/2 {
		t.Errorf("%v", waits)
	}
	if d := l.Deaths(); d.Count != 4 || !d.None || d.Why != "killed by killed" {
		t.Errorf("%+v", d)
	}
	if _, status, err := output(t, l, sh("exit 9")); err != nil || status.ExitStatus() != 9 {
		t.Errorf("who needs one: %v, %v", status, err)
	}
	if d := l.Deaths(); d.None {
		t.Errorf("%+v", d)
	}
}

// A launcher that takes nothing is killed, and nobody waits for it.
func TestAFullSocket(t *testing.T) {
	l := started(t)
	dead := of(l)
	_ = syscall.Kill(dead.pid, syscall.SIGSTOP)
	s := sh(strings.Repeat("#", 32<<10))
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var jobs []*Job
	for range 50 {
		j, err := l.Start(s, []*os.File{null, null, null})
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, j)
	}
	<-dead.done
	if _, err := jobs[0].Wait(); !errors.Is(err, errSlow) {
		t.Error(err)
	}
	if _, err := jobs[len(jobs)-1].Wait(); err != nil {
		t.Errorf("of the next one: %v", err)
	}
}

// What is killed and does not end is given up, and its launcher is not.
func TestStuck(t *testing.T) {
	r := &running{jobs: map[uint64]*Job{}}
	j := &Job{id: 1, by: r, started: make(chan struct{}), ended: make(chan struct{})}
	r.jobs[1] = j
	j.answer(message{Kind: kindKilled, ID: 1}, nil)
	j.unkillable()
	if _, err := j.Wait(); !errors.Is(err, ErrStuck) || len(r.jobs) != 0 || r.why != nil {
		t.Errorf("%v, %v", err, r.why)
	}
	j.unkillable()
}

// A program of which somebody else has taken the status did not succeed.
func TestNoStatusIsNoSuccess(t *testing.T) {
	other := exec.Command("/bin/true")
	if err := other.Run(); err != nil { // reaped
		t.Fatal(err)
	}
	report, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFiles(ends[:])
	v := &server{socket: ends[0], jobs: map[uint64]*process{}}
	v.follow(1, &process{pid: other.Process.Pid}, 0, report)
	for buf := newBuffer(); ; {
		m, files, err := buf.receive(ends[1])
		closeFiles(files)
		if err != nil {
			t.Fatal(err)
		}
		if m.Kind != kindEnded {
			continue
		}
		if m.Errno != int(syscall.ECHILD) {
			t.Errorf("%+v", m)
		}
		return
	}
}

// A daemon that can open no more files has its programs run all the same.
func TestNoMoreFiles(t *testing.T) {
	l := started(t)
	dead := of(l)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	none := was
	if none.Cur, err = freeFile(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	j, err := l.Start(sh("exit 9"), []*os.File{r, w, w})
	var status unix.WaitStatus
	if err == nil {
		status, err = j.Wait()
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err != nil || status.ExitStatus() != 9 || of(l) != dead {
		t.Errorf("%v, %v, another launcher: %v", status, err, of(l) != dead)
	}
}

// freeFile is the number that the next file will have, with none free below it.
func freeFile() (uint64, error) {
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	return uint64(fd), unix.Close(fd)
}

func FuzzParse(f *testing.F) {
	for _, m := range []message{
		{Kind: kindStart, ID: 1, Spec: &Spec{Path: "/bin/sh", Args: []string{"sh"}, Dir: "/", Before: 1, Nice: -10, PIDNamespace: true}},
		{Kind: kindKill, ID: 2, Group: true},
		{Kind: kindStarted, ID: 3, PID: 4},
		{Kind: kindEnded, ID: 5, Errno: 2, Late: true, Status: 256},
	} {
		data, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, 3)
		f.Add(data, 0)
		f.Add(append(data, data...), 0)
	}
	f.Fuzz(func(t *testing.T, data []byte, files int) {
		m, err := parse(data, files)
		if err != nil {
			if !errors.Is(err, errMessage) {
				t.Fatal(err)
			}
			return
		}
		if m.ID == 0 || (m.Kind == kindStart) != (m.Spec != nil) || m.Spec != nil && (files < 3 || len(m.Spec.Args) == 0) {
			t.Fatalf("%+v with %d", m, files)
		}
		again, err := m.encode()
		if err != nil {
			return // a text that no program can be given
		}
		if n, err := parse(again, files); err != nil || fmt.Sprintf("%+v", n.Spec) != fmt.Sprintf("%+v", m.Spec) && m.Spec == nil {
			t.Fatalf("%s: %+v, %v", again, n, err)
		}
	})
}

// BenchmarkStart is from the call to the end of a program that does nothing.
func BenchmarkStart(b *testing.B) {
	const program = "/bin/true"
	b.Run("launcher", func(b *testing.B) {
		l := started(b)
		s := Spec{Path: program, Args: []string{program}, Dir: "/"}
		for b.Loop() {
			if _, _, err := output(b, l, s); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("exec", func(b *testing.B) {
		for b.Loop() {
			if err := exec.Command(program).Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
