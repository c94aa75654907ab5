package oci

import "strings"

// The grammar of references is written out, without regular expressions: compiling them
// would take a tenth of the time in which this program starts.

// maxRepository is the length of the longest name of a repository.
const maxRepository = 255

const (
	digits  = "0123456789"
	lower   = "abcdefghijklmnopqrstuvwxyz"
	upper   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	letters = lower + upper
)

// only reports whether s is made of the characters in set, one at least.
func only(s, set string) bool { return s != "" && strings.Trim(s, set) == "" }

// isTag wants a letter, digit or underscore, and 127 more or dots or hyphens.
func isTag(s string) bool {
	const word, longest = letters + digits + "_", 128
	return only(s, word+".-") && only(s[:1], word) && len(s) <= longest
}

// isRegistry wants a domain name, or an IPv6 address in brackets, and perhaps a port.
func isRegistry(s string) bool {
	host := s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && only(s[i+1:], digits) {
		host = s[:i]
	}
	if address, ok := strings.CutPrefix(host, "["); ok {
		address, ok = strings.CutSuffix(address, "]")
		return ok && only(address, digits+"abcdefABCDEF:")
	}
	for label := range strings.SplitSeq(host, ".") {
		if !only(label, letters+digits+"-") || strings.Trim(label, "-") != label {
			return false
		}
	}
	return true
}

// isRepository wants components between slashes.
func isRepository(s string) bool {
	for component := range strings.SplitSeq(s, "/") {
		if !isComponent(component) {
			return false
		}
	}
	return true
}

// isComponent wants lower-case letters and digits, with one dot, one or two underscores, or
// hyphens in between.
func isComponent(s string) bool {
	for s != "" {
		rest := strings.TrimLeft(s, lower+digits)
		if len(rest) == len(s) {
			return false
		}
		if rest == "" {
			return true
		}
		s = strings.TrimLeft(rest, "._-")
		switch separator := rest[:len(rest)-len(s)]; separator {
		case ".", "_", "__":
		default:
			if strings.Trim(separator, "-") != "" {
				return false
			}
		}
	}
	return false
}
