package cli

import (
	"errors"

	"proot-distro/internal/build"
	"proot-distro/internal/dockerfile"
)

// buildHints shows the lines of a Dockerfile that failed, and what their command said.
func buildHints(e *dockerfile.Error) []string {
	lines := e.Excerpt()
	var command *build.CommandError
	if errors.As(e.Err, &command) && len(command.Tail) > 0 {
		lines = append(append(lines, "Its last output was:"), command.Tail...)
	}
	return lines
}
