#include "textflag.h"

// See launcher.go. X18 is the stack that the kernel has made: argc, argv, nil, environment.
TEXT ·launcher(SB), NOSPLIT|NOFRAME, $0
	MOV	X2, X18
	MOV	$436, X17	// close_range(3, ~0, CLOSE_RANGE_CLOEXEC)
	MOV	$3, X10
	MOV	$-1, X11
	MOV	$4, X12
	ECALL
	MOV	(X18), X5
	SLLI	$3, X5, X5
	ADD	X18, X5, X19
	ADDI	$16, X19, X19	// the environment
	ADDI	$8, X18, X20	// files
	MOV	X20, X21
skip:
	MOV	(X21), X5
	ADDI	$8, X21, X21	// behind "": the arguments
	BEQZ	X5, done	// a guest has run it
	MOVBU	(X5), X6
	BNEZ	X6, skip
next:
	MOV	(X20), X10
	ADDI	$8, X20, X20
	MOVBU	(X10), X6
	BEQZ	X6, failed
	MOV	X21, X11
	MOV	X19, X12
	MOV	$221, X17	// execve
	ECALL
	MOVW	X10, (X18)
	JMP	next
failed:
	MOV	$64, X17	// write(3, error, 4)
	MOV	$3, X10
	MOV	X18, X11
	MOV	$4, X12
	ECALL
done:
	MOV	$94, X17	// exit_group(127)
	MOV	$127, X10
	ECALL
	UNDEF

TEXT ·launcherAddress(SB), NOSPLIT, $0-8
	MOV	$·launcher(SB), X5
	MOV	X5, ret+0(FP)
	RET
