// Package archtest holds the rules of this project's structure as tests over its
// source: the layers, who may speak to the terminal, who may exit, and the bounds
// that keep files and functions readable. It has no code of its own.
//
// A test that fails here is answered by moving code, not by changing a number.
package archtest
