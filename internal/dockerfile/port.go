package dockerfile

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
)

// maxPorts bounds the ranges of one EXPOSE.
const maxPorts = 1 << 16

// Ports reads the words of an EXPOSE, "8000-8010/udp", as "8000/udp", …
func (f *File) Ports(c *instructions.ExposeCommand) ([]string, error) {
	var ports []string
	for _, word := range c.Ports {
		got, err := f.portRange(c, word)
		if err != nil {
			return nil, f.At(c.Location(), fmt.Errorf("EXPOSE %s: %w", word, err))
		}
		if ports = append(ports, got...); len(ports) > maxPorts {
			return nil, f.At(c.Location(), fmt.Errorf("EXPOSE names more than %d ports", maxPorts))
		}
	}
	return ports, nil
}

func (f *File) portRange(c *instructions.ExposeCommand, word string) ([]string, error) {
	address, ports := "", word
	if i := strings.LastIndexByte(word, ':'); i >= 0 {
		address, ports = word[:i], word[i+1:]
		f.Lint(c, &linter.RuleExposeInvalidFormat, linter.RuleExposeInvalidFormat.Format(word))
		if err := checkHostPart(address); err != nil {
			return nil, err
		}
	}
	numbers, proto, given := strings.Cut(ports, "/")
	if !given {
		proto = "tcp"
	}
	if proto != strings.ToLower(proto) {
		f.Lint(c, &linter.RuleExposeProtoCasing, linter.RuleExposeProtoCasing.Format(word))
		proto = strings.ToLower(proto)
	}
	if proto != "tcp" && proto != "udp" && proto != "sctp" {
		return nil, fmt.Errorf("the protocol is tcp, udp or sctp")
	}
	first, last, isRange := strings.Cut(numbers, "-")
	if !isRange {
		last = first
	}
	from, err1 := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || from > to {
		return nil, fmt.Errorf("a port is a number from 0 to 65535, or a range FIRST-LAST")
	}
	var list []string
	for n := from; n <= to; n++ {
		list = append(list, strconv.FormatUint(n, 10)+"/"+proto)
	}
	return list, nil
}

// checkHostPart looks at what stands in front of the container's port: [IP:]PORT, which has no effect.
func checkHostPart(text string) error {
	host := text
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		host = text[:i]
	} else if strings.Trim(text, "0123456789-") == "" {
		return nil
	}
	if host = strings.Trim(host, "[]"); host != "" && net.ParseIP(host) == nil {
		return fmt.Errorf("%q is not an IP address", host)
	}
	return nil
}
