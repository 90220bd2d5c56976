//go:build !planted

package main

// plantedBug is nothing: only a build with the tag planted can leave out a safety rule.
const plantedBug = ""
