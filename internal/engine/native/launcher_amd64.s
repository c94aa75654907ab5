#include "textflag.h"

// See launcher.go. BX is the stack that the kernel has made: argc, argv, nil, environment.
TEXT ·launcher(SB), NOSPLIT|NOFRAME, $0
	MOVQ	SP, BX
	MOVL	$436, AX	// close_range(3, ~0, CLOSE_RANGE_CLOEXEC)
	MOVL	$3, DI
	MOVL	$-1, SI
	MOVL	$4, DX
	SYSCALL
	MOVQ	(BX), CX
	LEAQ	16(BX)(CX*8), R12	// the environment
	LEAQ	8(BX), R13	// files
	MOVQ	R13, R14
skip:
	MOVQ	(R14), AX
	TESTQ	AX, AX
	JEQ	done	// a guest has run it
	ADDQ	$8, R14	// behind "": the arguments
	CMPB	(AX), $0
	JNE	skip
next:
	MOVQ	(R13), DI
	CMPB	(DI), $0
	JEQ	failed
	ADDQ	$8, R13
	MOVQ	R14, SI
	MOVQ	R12, DX
	MOVL	$59, AX	// execve
	SYSCALL
	MOVQ	AX, (BX)
	JMP	next
failed:
	MOVL	$1, AX	// write(3, error, 4)
	MOVL	$3, DI
	MOVQ	BX, SI
	MOVL	$4, DX
	SYSCALL
done:
	MOVL	$231, AX	// exit_group(127)
	MOVL	$127, DI
	SYSCALL
	UNDEF

TEXT ·launcherAddress(SB), NOSPLIT, $0-8
	LEAQ	·launcher(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
