#include "textflag.h"

// See launcher.go. R4 is the stack that the kernel has made: argc, argv, nil, environment.
TEXT ·launcher(SB), NOSPLIT|NOFRAME, $0
	MOVW	R13, R4
	MOVW	$436, R7	// close_range(3, ~0, CLOSE_RANGE_CLOEXEC)
	MOVW	$3, R0
	MOVW	$-1, R1
	MOVW	$4, R2
	SWI	$0
	MOVW	(R4), R3
	ADD	$8, R4, R5
	ADD	R3<<2, R5, R5	// the environment
	ADD	$4, R4, R6	// files
	MOVW	R6, R8
skip:
	MOVW.P	4(R8), R3	// behind "": the arguments
	CMP	$0, R3
	BEQ	done	// a guest has run it
	MOVBU	(R3), R9
	CMP	$0, R9
	BNE	skip
next:
	MOVW.P	4(R6), R0
	MOVBU	(R0), R9
	CMP	$0, R9
	BEQ	failed
	MOVW	R8, R1
	MOVW	R5, R2
	MOVW	$11, R7	// execve
	SWI	$0
	MOVW	R0, (R4)
	B	next
failed:
	MOVW	$4, R7	// write(3, error, 4)
	MOVW	$3, R0
	MOVW	R4, R1
	MOVW	$4, R2
	SWI	$0
done:
	MOVW	$248, R7	// exit_group(127)
	MOVW	$127, R0
	SWI	$0
	UNDEF

TEXT ·launcherAddress(SB), NOSPLIT, $0-4
	MOVW	$·launcher(SB), R0
	MOVW	R0, ret+0(FP)
	RET
