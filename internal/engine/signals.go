package engine

import (
	"os"
	"os/signal"
	"slices"
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
