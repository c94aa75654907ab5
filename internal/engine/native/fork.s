// Empty: with an assembly file in the package, the compiler accepts the functions of
// fork.go that have no body.
