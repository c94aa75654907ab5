package cli

import (
	"errors"
	"fmt"

	"proot-distro/internal/engine"
	"proot-distro/internal/engine/native"
	"proot-distro/internal/engine/proot"
	"proot-distro/internal/host"
)

// What --engine and PD_ENGINE may say. Auto is native where that works and can do
// all that was asked for, else proot; on Termux it is proot.
const (
	engineAuto   = "auto"
	engineNative = "native"
	engineProot  = "proot"

	engineEnv = "PD_ENGINE"
)

// engineWish is the engine that the person wants; wish is the option's value.
func (a *App) engineWish(wish string) (string, error) {
	source := "--engine"
	if wish == "" {
		source, wish = engineEnv, a.Getenv(engineEnv)
	}
	switch wish {
	case "":
		return engineAuto, nil
	case engineNative:
		if a.Termux() {
			return "", &usageError{text: source + ": Android does not let apps make namespaces; proot is the only engine there"}
		}
		return wish, nil
	case engineAuto, engineProot:
		return wish, nil
	}
	return "", &usageError{text: fmt.Sprintf("%s: there is no engine %q: auto, native or proot", source, wish)}
}

// An engineChoice is how the engine of a process is found.
type engineChoice struct {
	wish string // the option's value
	// native is how native is made: [native.New], which tries it, or [native.Untried].
	native func() (*native.Engine, error)
	// refusal is why native is not taken, where that is known already.
	refusal error
}

// untriedNative leaves the trial to the start of the process: [native.ErrUnavailable] then
// calls for another choice.
func untriedNative() (*native.Engine, error) { return native.Untried(), nil }

// prepareProcess has an engine prepare spec, and tells which.
func (a *App) prepareProcess(h *host.Host, spec engine.Spec, choice engineChoice) (engine.Process, string, error) {
	wish, err := a.engineWish(choice.wish)
	if err != nil {
		return nil, "", err
	}
	refusal := choice.refusal
	if wish == engineNative || wish == engineAuto && !h.Termux && refusal == nil {
		process, err := prepareNative(spec, choice.native)
		if err == nil {
			return process, engineNative, nil
		}
		if refusal = err; wish == engineNative || !refuses(err) {
			return nil, "", err
		}
	}
	if refusal != nil {
		a.UI.Detailf("Taking proot: %v", refusal)
	}
	process, err := a.prepareProot(h, spec)
	if err != nil && refusal != nil {
		err = failures{err, refusal}
	}
	return process, engineProot, err
}

func (a *App) prepareProot(h *host.Host, spec engine.Spec) (engine.Process, error) {
	eng, err := a.newProot(proot.Config{Host: h, Reporter: a.UI})
	if err != nil {
		return nil, err
	}
	return eng.Prepare(spec)
}

// refuses reports whether err is about an engine, so that another one may do.
func refuses(err error) bool {
	var cannot *engine.Unsupported
	return errors.As(err, &cannot) || errors.Is(err, native.ErrUnavailable)
}

func prepareNative(spec engine.Spec, open func() (*native.Engine, error)) (engine.Process, error) {
	eng, err := open()
	if err != nil {
		return nil, err
	}
	return eng.Prepare(spec)
}

// printProotCommand prints what runs spec by hand.
func (a *App) printProotCommand(h *host.Host, spec engine.Spec, wish string) error {
	if wish == engineNative {
		return &usageError{text: "--get-proot-cmd does not go with --engine native, which runs no other program"}
	}
	process, err := a.prepareProot(h, spec)
	if err != nil {
		return err
	}
	a.UI.Print(process.(*proot.Process).CommandLine() + "\n")
	return nil
}
