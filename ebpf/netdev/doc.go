// Package netdev asks the kernel what an interface's driver can do, before anything is tried
// on it: which driver it is, and whether it runs XDP programs itself ("native").
//
// The driver's name is ETHTOOL_GDRVINFO's, which virtual devices have too. Whether it does XDP
// is said by the generic netlink family "netdev" (Linux 6.3, Documentation/netlink/specs/netdev.yaml,
// dev-get, xdp-features). Kernels without the family, User-Mode Linux among them, are no reason
// to fail: then it is Unknown, and has to be tried. The family says No of a driver that was
// built outside the kernel's tree and does not fill in its features, whatever that can do.
//
// The family "ethtool" is not asked: it has no names of drivers, and the speed and the state of
// a link decide nothing here.
package netdev
