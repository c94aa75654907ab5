package build

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// checkSignal refuses what no kernel knows: STOPSIGNAL takes a number, or a name with or without SIG.
func checkSignal(text string) error {
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if n, err := strconv.Atoi(name); err == nil {
		if n >= 1 && n <= 64 {
			return nil
		}
		return fmt.Errorf("STOPSIGNAL %s: signals are numbered from 1 to 64", text)
	}
	base, offset, _ := strings.Cut(strings.ReplaceAll(name, "-", "+"), "+")
	if base == "RTMIN" || base == "RTMAX" {
		if n, err := strconv.Atoi(offset); offset == "" || err == nil && n <= 30 {
			return nil
		}
	}
	if unix.SignalNum("SIG"+name) != 0 {
		return nil
	}
	return fmt.Errorf("STOPSIGNAL %s: there is no such signal", text)
}
