// Package drawing draws a recovery as a timeline: an SVG with a lane for each
// node, its marks (what happened, at how many milliseconds) and its spans (what
// it waited for).
//
// It is pure: the same lanes give the same bytes. The drawing stands alone (no
// script, no font, no other file), is readable on light and dark pages, and no
// label lies on another or on another's leader line.
package drawing
