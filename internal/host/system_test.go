package host

import "testing"

func TestInstallCommand(t *testing.T) {
	for text, want := range map[string]string{
		"NAME=x\nID=debian\n":                       "sudo apt install proot",
		"ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n": "sudo apt install proot",
		"ID=fedora": "sudo dnf install proot",
		"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"":   "sudo dnf install proot",
		"ID=manjaro\nID_LIKE=arch\n":                     "sudo pacman -S proot",
		"ID=\"opensuse-tumbleweed\"\nID_LIKE=\"suse\"\n": "sudo zypper install proot",
		"ID='alpine'\n": "sudo apk add proot",
		"ID=void":       "sudo xbps-install -S proot",
		"ID=gentoo":     "sudo emerge proot",
		"ID=nixos":      "nix-shell -p proot",
		"ID=homemade":   "",
		"":              "",
	} {
		if got := ParseSystem(text).InstallCommand("proot"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := (&Host{Termux: true}).InstallCommand("proot"); got != "pkg install proot" {
		t.Error(got)
	}
	if got := ParseSystem("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n").Name; got != "Debian GNU/Linux 12 (bookworm)" {
		t.Error(got)
	}
}
