package proot

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

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
	return "", &NotFoundError{Hint: installHint(h, "proot")}
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

// installers maps an ID of os-release(5) to the command that installs a package.
var installers = map[string]string{
	"debian": "sudo apt install", "ubuntu": "sudo apt install",
	"fedora": "sudo dnf install", "rhel": "sudo dnf install", "centos": "sudo dnf install",
	"arch": "sudo pacman -S",
	"suse": "sudo zypper install", "opensuse": "sudo zypper install",
	"alpine": "sudo apk add",
	"void":   "sudo xbps-install -S",
	"gentoo": "sudo emerge",
	"nixos":  "nix-shell -p",
}

// InstallHint gives the command that installs proot on the distribution which
// the text of an os-release(5) file describes; empty when it is not known.
func InstallHint(osRelease string) string { return packageHint(osRelease, "proot") }

func packageHint(osRelease, pkg string) string {
	var id string
	var like []string
	for sc := bufio.NewScanner(strings.NewReader(osRelease)); sc.Scan(); {
		key, value, _ := strings.Cut(strings.TrimSpace(sc.Text()), "=")
		value = strings.ToLower(strings.Trim(value, `"'`))
		switch key {
		case "ID":
			id = value
		case "ID_LIKE":
			like = strings.Fields(value)
		}
	}
	for _, name := range append([]string{id}, like...) {
		// opensuse-leap, opensuse-tumbleweed
		name, _, _ = strings.Cut(name, "-")
		if command := installers[name]; command != "" {
			return command + " " + pkg
		}
	}
	return ""
}

// installHint is packageHint for this machine.
func installHint(h *host.Host, pkg string) string {
	if h.Termux {
		return "pkg install " + pkg
	}
	return packageHint(osRelease(), pkg)
}

// osRelease reads the file that os-release(5) names, or its older place.
func osRelease() string {
	for _, file := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if text, err := os.ReadFile(file); err == nil {
			return string(text)
		}
	}
	return ""
}
