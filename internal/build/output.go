package build

import "bytes"

const (
	tailLines = 25      // shown when a command fails
	maxLine   = 8 << 10 // bytes; longer lines are cut into several
)

// output cuts what a command prints into lines. Standard output and error share one, whose
// writes come one at a time.
type output struct {
	line func(string) // may be nil
	rest []byte
	tail []string
}

func (o *output) Write(p []byte) (int, error) {
	o.rest = append(o.rest, p...)
	for {
		i := bytes.IndexByte(o.rest, '\n')
		if i < 0 && len(o.rest) < maxLine {
			return len(p), nil
		}
		if i < 0 || i > maxLine {
			i = maxLine - 1
			o.emit(o.rest[:i+1])
		} else {
			o.emit(o.rest[:i])
		}
		o.rest = append(o.rest[:0], o.rest[i+1:]...)
	}
}

// close emits a last line without a line break.
func (o *output) close() {
	if len(o.rest) > 0 {
		o.emit(o.rest)
		o.rest = nil
	}
}

// emit takes one line. Of a line that was drawn over and over, as progress bars do, the last
// state counts.
func (o *output) emit(line []byte) {
	line = bytes.TrimRight(line, "\r")
	if i := bytes.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:]
	}
	text := string(line)
	if len(o.tail) == tailLines {
		o.tail = append(o.tail[:0], o.tail[1:]...)
	}
	o.tail = append(o.tail, text)
	if o.line != nil {
		o.line(text)
	}
}
