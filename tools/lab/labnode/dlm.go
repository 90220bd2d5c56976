package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/tools/lab/dlmdev"
)

// dlm uses the kernel's DLM as programs do that are linked with libdlm.
func dlm(args []string) error {
	verbs := map[string]func([]string) error{
		"create": dlmCreate, "release": dlmRelease, "rounds": dlmRounds, "locks": dlmLocks, "count": dlmCount,
	}
	if len(args) == 0 || verbs[args[0]] == nil {
		return errors.New("create, release, rounds, locks or count")
	}
	return verbs[args[0]](args[1:])
}

// all does the same to several lockspaces at once.
func all(names []string, f func(string) error) error {
	var g errgroup.Group
	for _, name := range names {
		g.Go(func() error { return f(name) })
	}
	return g.Wait()
}

func dlmCreate(args []string) error {
	fs := flag.NewFlagSet("create", flag.ContinueOnError)
	exclusive := fs.Bool("exclusive", false, "an error where it is there already")
	names, err := parse(fs, args, several)
	if err != nil {
		return err
	}
	return all(names, func(name string) error { return dlmdev.Create(name, *exclusive) })
}

func dlmRelease(args []string) error {
	fs := flag.NewFlagSet("release", flag.ContinueOnError)
	force := fs.Bool("force", false, "with the locks of this node")
	names, err := parse(fs, args, several)
	if err != nil {
		return err
	}
	return all(names, func(name string) error { return dlmdev.Release(name, *force) })
}

// dlmRounds joins and leaves, again and again; each time it takes a lock, so that
// the lockspace is used.
func dlmRounds(args []string) error {
	fs := flag.NewFlagSet("rounds", flag.ContinueOnError)
	count := fs.Int("count", 1, "how often")
	pos, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	for i := range *count {
		if err := dlmRound(pos[0]); err != nil {
			return fmt.Errorf("round %d of %d: %w", i+1, *count, err)
		}
	}
	fmt.Println(*count, "rounds")
	return nil
}

func dlmRound(lockspace string) error {
	if err := dlmdev.Create(lockspace, true); err != nil {
		return err
	}
	if err := lockOnce(lockspace); err != nil {
		return err
	}
	return dlmdev.Release(lockspace, false)
}

func lockOnce(lockspace string) error {
	ls, err := dlmdev.Open(lockspace)
	if err != nil {
		return err
	}
	defer ls.Close()
	k, err := ls.Lock("round", dlmdev.EX, 0)
	if err != nil {
		return err
	}
	return k.Unlock()
}

// dlmLocks does what the lines of its input say, and says what came of each:
//
//	lock RESOURCE MODE [noqueue]     RESOURCE MODE "VALUE" [lost], or RESOURCE refused
//	convert RESOURCE MODE [VALUE]    the same; VALUE is written where PW or EX is given up
//	unlock RESOURCE [VALUE]          RESOURCE unlocked
//
// All locks go at the end of the input.
func dlmLocks(args []string) error {
	fs := flag.NewFlagSet("locks", flag.ContinueOnError)
	limit := fs.Duration("limit", 0, "for one line, 0: as long as it takes")
	pos, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	ls, err := dlmdev.Open(pos[0])
	if err != nil {
		return err
	}
	defer ls.Close()
	ls.Limit = *limit
	return obeyAll(os.Stdin, os.Stdout, ls)
}

func obeyAll(in io.Reader, out io.Writer, ls *dlmdev.Lockspace) error {
	held := map[string]*dlmdev.Lock{}
	sc := bufio.NewScanner(in)
	for sc.Scan() {
		said, err := obey(ls, held, strings.Fields(sc.Text()))
		if err != nil {
			return fmt.Errorf("%s: %w", sc.Text(), err)
		}
		fmt.Fprintln(out, said)
	}
	return sc.Err()
}

// obey does one line.
func obey(ls *dlmdev.Lockspace, held map[string]*dlmdev.Lock, word []string) (string, error) {
	for len(word) < 4 {
		word = append(word, "")
	}
	verb, name := word[0], word[1]
	k := held[name]
	switch {
	case verb == "lock" && k == nil:
		return obeyLock(ls, held, word)
	case verb == "convert" && k != nil:
		m, err := dlmdev.ParseMode(word[2])
		if err != nil {
			return "", err
		}
		setValue(k, word[3])
		err = k.Convert(m, 0)
		return spell(k), err
	case verb == "unlock" && k != nil:
		setValue(k, word[2])
		delete(held, name)
		return name + " unlocked", k.Unlock()
	}
	return "", errors.New("lock, convert or unlock; and what is held can be locked no more, what is not held not be converted")
}

func obeyLock(ls *dlmdev.Lockspace, held map[string]*dlmdev.Lock, word []string) (string, error) {
	name := word[1]
	m, err := dlmdev.ParseMode(word[2])
	if err != nil {
		return "", err
	}
	var f dlmdev.Flags
	if word[3] == "noqueue" {
		f = dlmdev.NoQueue
	}
	k, err := ls.Lock(name, m, f)
	if f == dlmdev.NoQueue && errors.Is(err, unix.EAGAIN) {
		return name + " refused", nil
	}
	if err != nil {
		return "", err
	}
	held[name] = k
	return spell(k), nil
}

func spell(k *dlmdev.Lock) string {
	lost := ""
	if k.ValueLost {
		lost = " lost"
	}
	return fmt.Sprintf("%s %s %q%s", k.Resource, k.Mode, valueText(k.Value), lost)
}

// setValue sets what the lock's value block shall be; "" leaves it.
func setValue(k *dlmdev.Lock, s string) {
	if s != "" {
		k.Value = dlmdev.Value{}
		copy(k.Value[:], s)
	}
}

func valueText(v dlmdev.Value) string { return strings.TrimRight(string(v[:]), "\x00") }
