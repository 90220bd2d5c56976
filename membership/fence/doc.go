// Package fence holds the providers of membership.Fencer: agent (unmodified
// fence-agents programs), manual (an operator's word), and fencetest, the
// conformance suite that they pass.
package fence
