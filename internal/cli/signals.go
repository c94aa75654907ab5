package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// errAborted says that a signal ended the command; everything was cleaned up.
var errAborted = errors.New("aborted by user")

// signalWatch turns signals into the end of a context, so that commands clean
// up on their usual way out.
type signalWatch struct {
	signals  chan os.Signal
	ignored  []os.Signal // the caller of this program ignores them, as shells do for jobs in the background
	released atomic.Bool // what arrives is for somebody else
	ended    chan struct{}
}

// sameSignal is the time in which what arrives twice was sent once: to a group of processes and to one of
// them (timeout(1)), or by the terminal and by a parent that passes signals on ([native.Unshare]).
const sameSignal = 200 * time.Millisecond

// watchSignals ends the context at the first SIGINT, SIGQUIT, SIGTERM or
// SIGHUP and the process at the second.
func (a *App) watchSignals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	w := &signalWatch{signals: make(chan os.Signal, 2), ended: make(chan struct{})}
	a.watch = w
	heeded := []os.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGTERM}
	for _, s := range append(heeded, unix.SIGHUP) {
		if signal.Ignored(s) {
			w.ignored = append(w.ignored, s)
		}
	}
	if !signal.Ignored(unix.SIGHUP) { // that is nohup(1)
		heeded = append(heeded, unix.SIGHUP)
	}
	signal.Notify(w.signals, heeded...)
	go w.follow(cancel)
	return ctx, sync.OnceFunc(func() {
		signal.Stop(w.signals)
		close(w.ended)
		cancel(nil)
	})
}

// release leaves signals to those who catch them from now on. A guest inherits what is ignored, so that are
// the signals that the caller ignores, and no others.
func (w *signalWatch) release() {
	w.released.Store(true)
	if len(w.ignored) > 0 { // none would mean all
		signal.Ignore(w.ignored...)
	}
}

func (w *signalWatch) follow(cancel context.CancelCauseFunc) {
	var first time.Time
	for {
		select {
		case <-w.ended:
			return
		case <-w.signals:
		}
		switch {
		case w.released.Load():
		case first.IsZero():
			first = time.Now()
			cancel(errAborted)
		case time.Since(first) > sameSignal:
			os.Exit(exitAborted) // cleaning up takes too long for this person
		}
	}
}
