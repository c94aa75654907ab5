package container

import (
	"fmt"
	"strings"
)

// maxName keeps every file name made of a container's name, such as
// <name>~removed, well below the 255 bytes that file systems allow.
const maxName = 128

const lettersAndDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// NameError says in a sentence why no container can be called so.
type NameError struct{ Name, text string }

func (e *NameError) Error() string { return e.text }

// ValidateName checks that a container may be called name. Its error is a [*NameError].
func ValidateName(name string) error {
	bad := func(format string, args ...any) error { return &NameError{name, fmt.Sprintf(format, args...)} }
	switch {
	case name == "":
		return bad("the container name is empty")
	case len(name) > maxName:
		return bad("the container name %.20q… is too long: %d characters, at most %d are allowed", name, len(name), maxName)
	case strings.Trim(name, lettersAndDigits+"_.-") != "", !strings.Contains(lettersAndDigits, name[:1]):
		return bad("%q is not a container name: only letters, digits, '_', '.' and '-' are allowed, with a letter or digit first", name)
	}
	return nil
}
