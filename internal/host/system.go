package host

import (
	"bufio"
	"os"
	"strings"
)

// System is a distribution, as os-release(5) describes it.
type System struct {
	Name string // "Debian GNU/Linux 12 (bookworm)"; empty when not known

	installer string // the command line in front of a package's name
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

// ParseSystem reads the text of an os-release(5) file.
func ParseSystem(osRelease string) System {
	var s System
	var id string
	var like []string
	for sc := bufio.NewScanner(strings.NewReader(osRelease)); sc.Scan(); {
		key, value, _ := strings.Cut(strings.TrimSpace(sc.Text()), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			id = strings.ToLower(value)
		case "ID_LIKE":
			like = strings.Fields(strings.ToLower(value))
		case "PRETTY_NAME":
			s.Name = value
		}
	}
	for _, name := range append([]string{id}, like...) {
		// opensuse-leap, opensuse-tumbleweed
		name, _, _ = strings.Cut(name, "-")
		if command := installers[name]; command != "" {
			s.installer = command
			break
		}
	}
	return s
}

// InstallCommand installs a package; empty when it is not known how.
func (s System) InstallCommand(pkg string) string {
	if s.installer == "" {
		return ""
	}
	return s.installer + " " + pkg
}

// System reads the file that os-release(5) names, or its older place.
func (h *Host) System() System {
	for _, file := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if text, err := os.ReadFile(h.Path(file)); err == nil {
			return ParseSystem(string(text))
		}
	}
	return System{}
}

// InstallCommand installs a package on this machine; empty when it is not known how.
func (h *Host) InstallCommand(pkg string) string {
	if h.Termux {
		return "pkg install " + pkg
	}
	return h.System().InstallCommand(pkg)
}
