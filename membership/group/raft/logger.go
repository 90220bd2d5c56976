package raft

import "fmt"

// logger hands raft's own lines to a function, or drops them; Fatal and Panic
// panic, as raft expects, and Step turns that into ErrBroken.
type logger struct{ line func(string) }

func (l logger) print(level string, v ...any) {
	if l.line != nil {
		l.line(level + ": " + fmt.Sprint(v...))
	}
}

func (l logger) printf(level, format string, v ...any) {
	if l.line != nil {
		l.line(level + ": " + fmt.Sprintf(format, v...))
	}
}

func (l logger) Debug(v ...any)                   { l.print("debug", v...) }
func (l logger) Debugf(format string, v ...any)   { l.printf("debug", format, v...) }
func (l logger) Info(v ...any)                    { l.print("info", v...) }
func (l logger) Infof(format string, v ...any)    { l.printf("info", format, v...) }
func (l logger) Warning(v ...any)                 { l.print("warning", v...) }
func (l logger) Warningf(format string, v ...any) { l.printf("warning", format, v...) }
func (l logger) Error(v ...any)                   { l.print("error", v...) }
func (l logger) Errorf(format string, v ...any)   { l.printf("error", format, v...) }
func (l logger) Fatal(v ...any)                   { panic(fmt.Sprint(v...)) }
func (l logger) Fatalf(format string, v ...any)   { panic(fmt.Sprintf(format, v...)) }
func (l logger) Panic(v ...any)                   { panic(fmt.Sprint(v...)) }
func (l logger) Panicf(format string, v ...any)   { panic(fmt.Sprintf(format, v...)) }
