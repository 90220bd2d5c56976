// Package liveness says who is suspect and who is convicted.
package liveness
