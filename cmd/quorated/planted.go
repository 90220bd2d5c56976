//go:build planted

package main

// plantedBug is a safety rule that this build leaves out (see node.Options.Break), so
// that the tests on real kernels can show that they notice. It is set when the
// program is linked, with -ldflags '-X main.plantedBug=skip-fence'.
var plantedBug string
