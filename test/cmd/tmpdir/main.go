// Command tmpdir prints where tests that make many files had best work.
package main

import (
	"fmt"

	"proot-distro/test/fixtures"
)

func main() { fmt.Println(fixtures.WorkDir()) }
