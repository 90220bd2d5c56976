// Package dist holds the files that are installed beside the programs: the unit,
// the udev rules, modules-load.d, sysusers.d, sleep.conf.d and the reference configuration; and it
// makes the manual pages that the tool does not make of its commands.
//
//	quorated.service   /usr/lib/systemd/system/
//	quorate-witness.service  the same, for another machine
//	61-quorate.rules   /usr/lib/udev/rules.d/
//	modules-load.conf  /usr/lib/modules-load.d/quorate.conf
//	sysusers.conf      /usr/lib/sysusers.d/quorate.conf
//	sleep.conf         /usr/lib/systemd/sleep.conf.d/quorate.conf
//	quorate.toml       /etc/quorate/quorate.toml.example
//
// The documents for users, of docs/, go to /usr/share/doc/quorate.
package dist

import _ "embed"

// Reference is the reference configuration, every key explained.
//
//go:embed quorate.toml
var Reference string
