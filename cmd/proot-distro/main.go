// Command proot-distro runs Linux containers without root; pd is its short name.
package main

import (
	"os"

	"proot-distro/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
}
