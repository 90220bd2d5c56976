package dlm

// AbortConnects is what the driver does through sock_diag.
var AbortConnects = sockDiag{}.AbortConnects
var ConnectBlocks = connectBlocks
