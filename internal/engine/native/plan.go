package native

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A plan is a list of system calls, prepared by this process and run by a forked
// copy of it that can neither allocate memory nor do anything else of Go's.
type plan struct {
	calls []*call
	steps []string // what the calls are for; call.step points into it
	held  []any    // what the arguments point to
	err   error    // the first argument that could not be prepared

	report *call // nil, or one whose first argument becomes the descriptor that takes reports
}

// A call is one system call, and its result once it was made.
type call struct {
	nr     uintptr
	args   [6]uintptr
	from   [6]*call // nil, or the call whose result is the argument
	result uintptr
	copyTo *int32 // nil, or another place for the result
	step   int

	tolerated bool // an error does not end the plan
	skip      int  // calls to leave out after a tolerated error
}

// step begins a part of the plan with the words that complete "cannot …".
func (p *plan) step(format string, args ...any) {
	p.steps = append(p.steps, fmt.Sprintf(format, args...))
}

// do adds a system call. Arguments are integers, strings, pointers, and calls
// before it whose result is meant.
func (p *plan) do(nr uintptr, args ...any) *call {
	c := &call{nr: nr, step: len(p.steps) - 1}
	for i, arg := range args {
		switch v := arg.(type) {
		case int:
			c.args[i] = uintptr(v)
		case uintptr:
			c.args[i] = v
		case *call:
			c.from[i] = v
		case unsafe.Pointer:
			p.held = append(p.held, v)
			c.args[i] = uintptr(v)
		case string:
			text, err := unix.BytePtrFromString(v)
			if err != nil && p.err == nil {
				p.err = fmt.Errorf("%q has a NUL character in it", v)
			}
			p.held = append(p.held, text)
			c.args[i] = uintptr(unsafe.Pointer(text))
		default:
			panic(fmt.Sprintf("system call argument of type %T", arg))
		}
	}
	p.calls = append(p.calls, c)
	return c
}

// attempt is do for a call that may fail; then the skip calls behind it are left out.
func (p *plan) attempt(skip int, nr uintptr, args ...any) *call {
	c := p.do(nr, args...)
	c.tolerated, c.skip = true, skip
	return c
}

// ifPossible leaves out what add adds when the first call of it fails.
func (p *plan) ifPossible(add func()) {
	n := len(p.calls)
	add()
	p.calls[n].tolerated, p.calls[n].skip = true, len(p.calls)-n-1
}

// write adds the writing of a text to a descriptor, which is closed then.
func (p *plan) write(fd *call, text string) {
	p.do(unix.SYS_WRITE, fd, text, len(text))
	p.do(unix.SYS_CLOSE, fd)
}

// strings makes an array for execve(2).
func (p *plan) strings(list []string) unsafe.Pointer {
	array := make([]*byte, len(list)+1)
	for i, s := range list {
		text, err := unix.BytePtrFromString(s)
		if err != nil && p.err == nil {
			p.err = fmt.Errorf("%q has a NUL character in it", s)
		}
		array[i] = text
	}
	return unsafe.Pointer(&array[0])
}
