package main

import (
	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/agent"
	"github.com/quorate/quorate/membership/fence/manual"
)

// newFencer chooses the fencing that the configuration asks for. Agents are started by
// a process of its own, which begins here: at the daemon's start, before it has
// real-time priority and its memory.
func newFencer(cfg config.Config) membership.Fencer {
	if len(cfg.Devices) == 0 {
		return manual.New(cfg.Config)
	}
	_ = agent.StartLauncher() // else when it is needed, which says why not
	return agent.New(cfg.Config)
}
