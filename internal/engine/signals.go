package engine

import (
	"errors"
	"os"
	"os/signal"
	"slices"

	"golang.org/x/sys/unix"
)

// CatchSignals is signal.Notify, but leaves signals ignored that the caller of this
// program made it ignore, as nohup(1) does: the guest inherits that.
func CatchSignals(signals ...os.Signal) chan os.Signal {
	c := make(chan os.Signal, 8)
	if caught := slices.DeleteFunc(slices.Clone(signals), signal.Ignored); len(caught) > 0 { // none would mean all
		signal.Notify(c, caught...)
	}
	return c
}

// SignalAll sends a signal to processes, and counts those that were still there.
func SignalAll(pids []int, sig unix.Signal) (reached int, err error) {
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err == nil {
			reached++
		} else if !errors.Is(err, unix.ESRCH) {
			return reached, err
		}
	}
	return reached, nil
}
