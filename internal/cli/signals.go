package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// errAborted says that a signal ended the command; everything was cleaned up.
var errAborted = errors.New("aborted by user")

// signalWatch turns signals into the end of a context, so that commands clean
// up on their usual way out.
type signalWatch struct {
	signals chan os.Signal
	once    sync.Once
	ended   chan struct{}
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
	signal.Notify(w.signals, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP)
	go func() {
		select {
		case <-w.signals:
			cancel(errAborted)
		case <-w.ended:
			return
		}
		for first := time.Now(); ; {
			select {
			case <-w.signals:
				if time.Since(first) > sameSignal {
					os.Exit(exitAborted) // cleaning up takes too long for this person
				}
			case <-w.ended:
				return
			}
		}
	}()
	return ctx, func() {
		w.stop()
		cancel(nil)
	}
}

func (w *signalWatch) stop() {
	w.once.Do(func() {
		signal.Stop(w.signals)
		close(w.ended)
	})
}
