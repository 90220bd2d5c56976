// Package carrier tells of network interfaces that have lost their carrier: the cable was
// pulled, the port of the switch went down, or somebody set the interface down.
//
// It promises no more than a hint. What the kernel tells while nobody reads may be lost, an
// interface above another one, as a bond, may keep its carrier, and that a cable is there
// does not say that anything answers.
//
// The kernel tells by rtnetlink (RTM_NEWLINK to the group RTNLGRP_LINK, net/core/rtnetlink.c),
// in a few ms; datagrams of anybody but the kernel are not looked at.
package carrier
