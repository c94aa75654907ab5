package report

import (
	"errors"
	"io/fs"
)

// Cause drops the operation and the path of an error, for sentences that name these themselves.
func Cause(err error) error {
	var onPath *fs.PathError
	if errors.As(err, &onPath) {
		return onPath.Err
	}
	return err
}
