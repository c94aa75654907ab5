package proot

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

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

// Find gives the absolute path of the proot program: $PD_PROOT_BIN, or else
// the first proot in $PATH.
func Find(h *host.Host) (string, error) {
	if bin := h.Getenv("PD_PROOT_BIN"); bin != "" {
		if err := checkExecutable(bin); err != nil {
			return "", fmt.Errorf("PD_PROOT_BIN: %w", err)
		}
		return filepath.Abs(bin)
	}
	for _, dir := range filepath.SplitList(h.Getenv("PATH")) {
		bin := filepath.Join(dir, "proot")
		if filepath.IsAbs(bin) && checkExecutable(bin) == nil {
			return bin, nil
		}
	}
	return "", &NotFoundError{Hint: h.InstallCommand("proot")}
}

// checkExecutable reports, in a sentence, why path cannot be run.
func checkExecutable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s does not exist", path)
	case err != nil:
		return fmt.Errorf("cannot look at %s: %w", path, errors.Unwrap(err))
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a program file", path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if _, err := exec.LookPath(abs); err != nil {
		return fmt.Errorf("%s is not executable by you: run 'chmod +x' on it, or name another program", path)
	}
	return nil
}
