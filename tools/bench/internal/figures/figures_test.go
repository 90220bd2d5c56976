package figures

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{7}, 7}, {[]float64{3, 1}, 2}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5}} {
		in := slices.Clone(c.in)
		if got := Median(in); got != c.want || !slices.Equal(in, c.in) {
			t.Errorf("%v: %v", c.in, got)
		}
	}
}

func TestRound(t *testing.T) {
	if Round(12.34) != 12.3 || Round(-0.06) != -0.1 {
		t.Error(Round(12.34), Round(-0.06))
	}
}

func TestThis(t *testing.T) {
	if m := This(os.TempDir()); m.Kernel == "" || m.CPUs < 1 || m.StateFS == "unknown" {
		t.Errorf("%+v", m)
	}
	if fsName(0xef53) != "ext4" || fsName(1) != "0x1" {
		t.Error(fsName(0xef53), fsName(1))
	}
}

func TestSave(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a", "f.json")
	if err := Save(file, map[string]int{"x": 1}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "{\n  \"x\": 1\n}\n" {
		t.Errorf("%q %v", b, err)
	}
	if Save(file, func() {}) == nil {
		t.Error("a function was saved")
	}
}

func TestParseLoad(t *testing.T) {
	if v, err := parseLoad([]byte("2.13 1.84 2.01 1/345 6527\n")); err != nil || v != 2.13 {
		t.Errorf("%v %v", v, err)
	}
	for _, bad := range []string{"", "x y z", "1 2"} {
		if v, err := parseLoad([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, v)
		}
	}
}
