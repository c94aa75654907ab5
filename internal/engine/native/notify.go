package native

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
)

// An answerer answers the system calls that a guest's filter passes on, as
// seccomp_unotify(2) describes: uname(2) with another release, bind(2) to a
// privileged port with a port that an ordinary user may have, and chown(2) and its
// like with success and a note.
//
// None of this protects anything, so it does no harm that a guest can change memory
// between a look at it and the call.
type answerer struct {
	listener int
	stop     pipe // its reading end becomes readable when the session has ended
	uts      unix.Utsname
	owners   *owners
	uid      int // of this process
}

// notification is struct seccomp_notif with struct seccomp_data in it.
type notification struct {
	id    uint64
	pid   uint32 // the thread, as this process sees it
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	val   int64
	errno int32 // negative
	flags uint32
}

// newChannel makes the sockets over which the guest's process sends the listener.
func newChannel() (channel pipe, err error) {
	channel, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return pipe{-1, -1}, fmt.Errorf("make a socket: %w", err)
	}
	return channel, nil
}

// newAnswerer takes the listener that a started guest has sent.
func newAnswerer(s engine.Spec, o *owners, channel pipe) (*answerer, error) {
	buf := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(channel[0], make([]byte, 1), buf, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return nil, fmt.Errorf("receive the guest's listener: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(buf[:n])
	if err != nil || len(messages) != 1 {
		return nil, errors.New("receive the guest's listener: it did not come along")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("receive the guest's listener: it did not come along")
	}
	a := &answerer{listener: fds[0], owners: o, uid: os.Geteuid()}
	if err := unix.Pipe2(a.stop[:], unix.O_CLOEXEC); err != nil {
		unix.Close(a.listener)
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	// Who asks and who answers take turns: the kernel may spare itself waking another
	// CPU, since Linux 6.6.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(a.listener), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	_ = unix.Uname(&a.uts) // cannot fail with a valid pointer
	setField(&a.uts.Release, s.KernelRelease)
	setField(&a.uts.Nodename, s.Hostname)
	if s.Emulator == "" {
		setField(&a.uts.Machine, s.Arch.Uname())
	}
	return a, nil
}

// setField replaces a field of uname(2) unless value is empty.
func setField(field *[65]byte, value string) {
	if value != "" {
		*field = [65]byte{}
		copy(field[:64], value)
	}
}

// end makes serve return, and waits for nothing.
func (a *answerer) end() { unix.Close(a.stop[1]) }

// serve answers until no process with the filter is left, or until end.
func (a *answerer) serve() {
	defer unix.Close(a.listener)
	defer unix.Close(a.stop[0])
	for {
		fds := []unix.PollFd{{Fd: int32(a.listener), Events: unix.POLLIN}, {Fd: int32(a.stop[0]), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return
		}
		if fds[1].Revents != 0 || fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
			return
		}
		if fds[0].Revents&unix.POLLIN == 0 {
			continue
		}
		var n notification
		if ioctl(a.listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)) != nil {
			continue // who asked has been killed
		}
		r := a.answer(&n)
		_ = ioctl(a.listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)) // likewise
	}
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// errContinue says that the kernel is to run a call as it is.
var errContinue = errors.New("run the call as it is")

func (a *answerer) answer(n *notification) response {
	r := response{id: n.id}
	var errno unix.Errno
	var err error
	switch number := uint32(n.nr); {
	case callUname.Has(n.arch, number):
		err = a.uname(n)
	case callBind.Has(n.arch, number):
		err = a.bind(n, n.args[0], n.args[1], n.args[2])
	case callSocketcall.Has(n.arch, number):
		// socketcall(SYS_BIND, arguments), which i386 programs use.
		var args [12]byte
		if err = readMemory(int(n.pid), uintptr(n.args[1]), args[:]); err == nil {
			word := func(i int) uint64 { return uint64(binary.LittleEndian.Uint32(args[4*i:])) }
			err = a.bind(n, word(0), word(1), word(2))
		}
	default:
		err = errContinue
		if c, ok := chownOf(n.arch, number); ok {
			err = a.chown(n, c)
		}
	}
	switch {
	case err == nil:
	case errors.As(err, &errno):
		r.errno = -int32(errno)
	default:
		r.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	}
	return r
}

// uname writes the answer to the memory of who asked.
func (a *answerer) uname(n *notification) error {
	memory, err := unix.Open(procPath(int(n.pid), "mem"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(memory)
	// Is it? The thread may have died, and its number may be another's by now.
	if err := a.isWaiting(n); err != nil {
		return err
	}
	answer := unsafe.Slice((*byte)(unsafe.Pointer(&a.uts)), unsafe.Sizeof(a.uts))
	if written, err := unix.Pwrite(memory, answer, int64(n.args[0])); err != nil || written != len(answer) {
		return unix.EFAULT
	}
	return nil
}

// isWaiting reports by an error that a call needs no answer any more: its thread has died.
func (a *answerer) isWaiting(n *notification) error {
	return ioctl(a.listener, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&n.id))
}

// portShift is what is added to privileged ports.
const (
	portShift       = 2000
	firstUnreserved = 1024
)

// bind binds the guest's socket to a higher port, if it is to be bound to a
// privileged one.
func (a *answerer) bind(n *notification, socket, address, length uint64) error {
	if length < unix.SizeofSockaddrInet4 || length > unix.SizeofSockaddrAny {
		return errContinue
	}
	sockaddr := make([]byte, length)
	if err := readMemory(int(n.pid), uintptr(address), sockaddr); err != nil {
		return err
	}
	if !shiftPort(sockaddr) {
		return errContinue
	}
	fd, err := guestFile(int(n.pid), int(int32(socket)))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// The thread may have died, and its number may be another's by now.
	if err := a.isWaiting(n); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sockaddr[0])), uintptr(len(sockaddr))); errno != 0 {
		return errno
	}
	return nil
}

// shiftPort changes the port of struct sockaddr_in or sockaddr_in6 if it is a
// privileged one.
func shiftPort(sockaddr []byte) bool {
	family := binary.LittleEndian.Uint16(sockaddr)
	port := binary.BigEndian.Uint16(sockaddr[2:])
	if family != unix.AF_INET && family != unix.AF_INET6 || port == 0 || port >= firstUnreserved {
		return false
	}
	binary.BigEndian.PutUint16(sockaddr[2:], port+portShift)
	return true
}

// guestFile copies a descriptor of the process that a thread belongs to.
func guestFile(thread, fd int) (int, error) {
	pid, err := strconv.Atoi(statusField(thread, "Tgid"))
	if err != nil {
		return -1, unix.ESRCH
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	return unix.PidfdGetfd(pidfd, fd, 0)
}

func readMemory(pid int, address uintptr, data []byte) error {
	local := []unix.Iovec{{Base: &data[0]}}
	local[0].SetLen(len(data))
	n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: address, Len: len(data)}}, 0)
	if err == nil && n != len(data) {
		err = unix.EFAULT
	}
	return err
}
