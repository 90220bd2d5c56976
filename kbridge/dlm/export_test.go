package dlm

// AbortConnects is what the driver does through sock_diag.
var AbortConnects = sockDiag{}.AbortConnects

// Forget is what it does where it cannot do that.
var Forget = sockDiag{}.Forget
var ConnectBlocks = connectBlocks
