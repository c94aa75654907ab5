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
// all that was asked for, else proot.
const (
	engineAuto   = "auto"
	engineNative = "native"
	engineProot  = "proot"

	defaultEngine = engineProot
	engineEnv     = "PD_ENGINE"
)

// engineWish is the engine that the person wants; wish is the option's value.
func (a *App) engineWish(wish string) (string, error) {
	source := "--engine"
	if wish == "" {
		source, wish = engineEnv, a.Getenv(engineEnv)
	}
	switch wish {
	case "":
		return defaultEngine, nil
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

// prepareProcess has an engine prepare spec, and tells which.
func (a *App) prepareProcess(h *host.Host, spec engine.Spec, wish string) (engine.Process, string, error) {
	wish, err := a.engineWish(wish)
	if err != nil {
		return nil, "", err
	}
	var refusal error // why native is not taken
	if wish == engineNative || wish == engineAuto && !h.Termux {
		process, err := prepareNative(spec)
		if err == nil {
			return process, engineNative, nil
		}
		var cannot *engine.Unsupported
		if wish == engineNative || !errors.As(err, &cannot) && !errors.Is(err, native.ErrUnavailable) {
			return nil, "", err
		}
		a.UI.Detailf("Taking proot: %v", err)
		refusal = err
	}
	eng, err := a.newProot(proot.Config{Host: h, Reporter: a.UI})
	if err != nil {
		return nil, "", err
	}
	process, err := eng.Prepare(spec)
	if err != nil && refusal != nil {
		err = failures{err, refusal}
	}
	return process, eng.Name(), err
}

func prepareNative(spec engine.Spec) (engine.Process, error) {
	eng, err := native.New()
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
	eng, err := a.newProot(proot.Config{Host: h, Reporter: a.UI})
	if err != nil {
		return err
	}
	process, err := eng.Prepare(spec)
	if err != nil {
		return err
	}
	a.UI.Print(process.(*proot.Process).CommandLine() + "\n")
	return nil
}
