#include "textflag.h"

// See launcher.go. R19 is the stack that the kernel has made: argc, argv, nil, environment.
TEXT ·launcher(SB), NOSPLIT|NOFRAME, $0
	MOVD	RSP, R19
	MOVD	$436, R8	// close_range(3, ~0, CLOSE_RANGE_CLOEXEC)
	MOVD	$3, R0
	MOVD	$-1, R1
	MOVD	$4, R2
	SVC
	MOVD	(R19), R3
	ADD	$16, R19, R20
	ADD	R3<<3, R20, R20	// the environment
	ADD	$8, R19, R21	// files
	MOVD	R21, R22
skip:
	MOVD.P	8(R22), R3	// behind "": the arguments
	CBZ	R3, done	// a guest has run it
	MOVBU	(R3), R4
	CBNZ	R4, skip
next:
	MOVD.P	8(R21), R0
	MOVBU	(R0), R4
	CBZ	R4, failed
	MOVD	R22, R1
	MOVD	R20, R2
	MOVD	$221, R8	// execve
	SVC
	MOVW	R0, (R19)
	B	next
failed:
	MOVD	$64, R8	// write(3, error, 4)
	MOVD	$3, R0
	MOVD	R19, R1
	MOVD	$4, R2
	SVC
done:
	MOVD	$94, R8	// exit_group(127)
	MOVD	$127, R0
	SVC
	UNDEF

TEXT ·launcherAddress(SB), NOSPLIT, $0-8
	MOVD	$·launcher(SB), R0
	MOVD	R0, ret+0(FP)
	RET
