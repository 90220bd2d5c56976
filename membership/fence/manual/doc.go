// Package manual is the Fencer of a cluster without devices: it never says that
// a node is cut off, and tells the operator what to do and what to say then.
package manual
