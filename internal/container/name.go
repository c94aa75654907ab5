package container

import (
	"fmt"
	"regexp"
)

// maxName keeps every file name made of a container's name, such as
// <name>~removed, well below the 255 bytes that file systems allow.
const maxName = 128

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.\-]*$`)

// ValidateName checks that a container may be called name.
func ValidateName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the container name is empty")
	case len(name) > maxName:
		return fmt.Errorf("the container name %.20q… is too long: %d characters, at most %d are allowed", name, len(name), maxName)
	case !namePattern.MatchString(name):
		return fmt.Errorf("%q is not a container name: only letters, digits, '_', '.' and '-' are allowed, with a letter or digit first", name)
	}
	return nil
}
