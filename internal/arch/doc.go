// Package arch holds the drawing of the house, as tests: which package may
// import which, which outside modules each may use, and how large a file and a
// function may get. It has no code that runs in the service.
package arch
