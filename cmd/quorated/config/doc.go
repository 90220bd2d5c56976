// Package config reads quorate.toml, the one file that is the same on every
// node, and turns it into membership.Config and the settings of the daemon's
// edges.
//
// The order of things: Load reads the file (size limited) and hands the bytes to
// Parse, which is pure: it checks everything and reports every fault of the file
// at once, each as file:line, what is wrong and what to write instead. A
// configuration that Parse returned without error is complete and consistent.
// Bind then finds this node among the configured ones, by its addresses or by an
// operator's word. Unknown keys are faults: a misspelt key must not be a
// setting that silently does not apply.
//
// With group = "static" a second file may list the members; it is read and
// checked in the same way (Members), and again whenever it changes.
//
// Digest lets two nodes compare their files key by key without showing what is
// in them; the values of secrets are not part of it, and neither are the keys
// that may differ between nodes (state.dir, cluster.key_file, events.send_to,
// liveness.reflector).
package config
