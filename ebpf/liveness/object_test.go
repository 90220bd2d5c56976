package liveness

import (
	"bytes"
	"embed"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
)

//go:embed bpf_bpfel.o bpf_bpfeb.o
var objectFiles embed.FS

// The objects for both byte orders have the same programs and maps: the big-endian one is run
// by no test.
func TestBothByteOrders(t *testing.T) {
	var says [2][]string
	for i, path := range []string{"bpf_bpfel.o", "bpf_bpfeb.o"} {
		object, err := objectFiles.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
		if err != nil {
			t.Fatalf("%s: %+v", path, err)
		}
		if want := []string{"little", "big"}[i]; (spec.ByteOrder.String() == "BigEndian") != (want == "big") {
			t.Errorf("%s is of byte order %v", path, spec.ByteOrder)
		}
		for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
			p := spec.Programs[name]
			says[i] = append(says[i], fmt.Sprintf("program %s: %v in %s, flags %x, licence %q", name, p.Type, p.SectionName, p.Flags, p.License))
		}
		for _, name := range slices.Sorted(maps.Keys(spec.Maps)) {
			m := spec.Maps[name]
			says[i] = append(says[i], fmt.Sprintf("map %s: %v of %d, key %d, value %d, flags %x", name, m.Type, m.MaxEntries, m.KeySize, m.ValueSize, m.Flags))
		}
	}
	if !slices.Equal(says[0], says[1]) || len(says[0]) < 11 {
		t.Errorf("little-endian:\n%q\nbig-endian:\n%q", says[0], says[1])
	}
}
