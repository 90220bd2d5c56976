package liveness

// The compiler is the one that `make generate` installs: another one gives other bytes.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel,bpfeb -no-global-types bpf bpf/reflector.c -- -mcpu=v3 -Wall -Wextra -Werror
