package seccomp

// Calls that give files away. Those in whose name is 16 have IDs of 16 bits.
var (
	Chown    = Numbers{92, 212, 212, 0, 0}
	Lchown   = Numbers{94, 198, 198, 0, 0}
	Fchown   = Numbers{93, 207, 207, 55, 55}
	Fchownat = Numbers{260, 298, 325, 54, 54}
	Chown16  = Numbers{0, 182, 182, 0, 0}
	Lchown16 = Numbers{0, 16, 16, 0, 0}
	Fchown16 = Numbers{0, 95, 95, 0, 0}
)
