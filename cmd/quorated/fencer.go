package main

import (
	"github.com/quorate/quorate/cmd/quorated/config"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/fence/agent"
	"github.com/quorate/quorate/membership/fence/manual"
)

// newFencer chooses the fencing that the configuration asks for.
func newFencer(cfg config.Config) membership.Fencer {
	if len(cfg.Devices) == 0 {
		return manual.New(cfg.Config)
	}
	return agent.New(cfg.Config)
}
