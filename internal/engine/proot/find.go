package proot

import (
	"fmt"
	"path/filepath"

	"proot-distro/internal/engine"
	"proot-distro/internal/host"
)

// NotFoundError says that there is no proot program.
type NotFoundError struct {
	Hint string // a command that installs it; empty when not known
}

func (e *NotFoundError) Error() string {
	if e.Hint == "" {
		return "proot is not installed: install the package proot, or set PD_PROOT_BIN to the program's path"
	}
	return fmt.Sprintf("proot is not installed: run '%s', or set PD_PROOT_BIN to the program's path", e.Hint)
}

// find gives the absolute path of the proot program: $PD_PROOT_BIN, or else
// the first proot in $PATH.
func find(h *host.Host) (string, error) {
	if bin := h.Getenv("PD_PROOT_BIN"); bin != "" {
		if err := engine.CheckProgram(bin); err != nil {
			return "", fmt.Errorf("PD_PROOT_BIN: %w", err)
		}
		return filepath.Abs(bin)
	}
	for _, dir := range filepath.SplitList(h.Getenv("PATH")) {
		bin := filepath.Join(dir, "proot")
		if filepath.IsAbs(bin) && engine.CheckProgram(bin) == nil {
			return bin, nil
		}
	}
	return "", &NotFoundError{Hint: h.InstallCommand("proot")}
}
