// Package accept tells the acceptance stories on real kernels: each test is
// something that happens to a cluster, and what its operator may rely on then.
// They run with QUORATE_LAB=1, as root, and share booted clusters.
package accept
