package native

import (
	"proot-distro/internal/engine"
	"proot-distro/internal/platform"
)

// Abilities is what the engine can do on this machine beyond running programs.
type Abilities struct {
	// OwnProcesses: guests have process IDs of their own and do not see the host's.
	OwnProcesses bool `json:"own_processes"`
}

// Examine tries what a session needs. Its errors are those of [New].
func Examine() (Abilities, error) {
	e, err := New()
	if err != nil {
		return Abilities{}, err
	}
	return Abilities{OwnProcesses: e.features.pidNamespace}, nil
}

// TryEmulator reports why programs of architecture guest do not run through an emulator,
// if they don't: an [*engine.Unsupported] where another emulator or kernel would do.
func TryEmulator(guest platform.Arch, emulator string) error {
	_, err := checkEmulator(engine.Spec{Arch: guest, Emulator: emulator})
	return err
}
