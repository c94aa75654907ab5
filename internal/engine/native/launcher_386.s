#include "textflag.h"

// See launcher.go. BP is the stack that the kernel has made: argc, argv, nil, environment.
TEXT ·launcher(SB), NOSPLIT|NOFRAME, $0
	MOVL	SP, BP
	MOVL	$436, AX	// close_range(3, ~0, CLOSE_RANGE_CLOEXEC)
	MOVL	$3, BX
	MOVL	$-1, CX
	MOVL	$4, DX
	INT	$0x80
	MOVL	(BP), DX
	LEAL	8(BP)(DX*4), DX	// the environment
	LEAL	4(BP), SI	// files
	MOVL	SI, CX
skip:
	MOVL	(CX), AX
	TESTL	AX, AX
	JEQ	done	// a guest has run it
	ADDL	$4, CX	// behind "": the arguments
	CMPB	(AX), $0
	JNE	skip
next:
	MOVL	(SI), BX
	CMPB	(BX), $0
	JEQ	failed
	ADDL	$4, SI
	MOVL	$11, AX	// execve
	INT	$0x80
	MOVL	AX, (BP)
	JMP	next
failed:
	MOVL	$4, AX	// write(3, error, 4)
	MOVL	$3, BX
	MOVL	BP, CX
	MOVL	$4, DX
	INT	$0x80
done:
	MOVL	$252, AX	// exit_group(127)
	MOVL	$127, BX
	INT	$0x80
	UNDEF

TEXT ·launcherAddress(SB), NOSPLIT, $0-4
	LEAL	·launcher(SB), AX
	MOVL	AX, ret+0(FP)
	RET
