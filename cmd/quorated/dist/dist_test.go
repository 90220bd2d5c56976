package dist

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/cmd/quorated/config"
)

func TestReference(t *testing.T) {
	if _, err := config.Parse("quorate.toml", []byte(Reference)); err != nil {
		t.Error(err)
	}
}

// unit reads the unit's settings: "Service.Type": ["notify"].
func unit(t *testing.T, name string) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	out, section := map[string][]string{}, ""
	for l := range strings.Lines(string(data)) {
		l = strings.TrimSpace(l)
		switch key, value, ok := strings.Cut(l, "="); {
		case l == "" || l[0] == '#':
		case l[0] == '[':
			section = strings.Trim(l, "[]")
		case ok:
			out[section+"."+key] = append(out[section+"."+key], strings.Fields(value)...)
		default:
			t.Errorf("line %q", l)
		}
	}
	return out
}

// TestUnitKeepsItsPromises: what the design says of signals and order.
func TestUnitKeepsItsPromises(t *testing.T) {
	u := unit(t, "quorated.service")
	for key, want := range map[string]string{
		"Service.Type": "notify", "Service.SendSIGKILL": "no", "Service.OOMScoreAdjust": "-1000", "Service.KillMode": "process",
		"Service.LimitMEMLOCK": "infinity", "Service.RuntimeDirectory": "quorate", "Service.RuntimeDirectoryPreserve": "yes",
		"Service.StateDirectory": "quorate", "Install.Alias": "dlm.service", "Unit.RefuseManualStop": "yes",
	} {
		if got := strings.Join(u[key], " "); got != want {
			t.Errorf("%s=%s, want %s", key, got, want)
		}
	}
	for key, want := range map[string]string{
		"Unit.Conflicts": "corosync.service pacemaker.service", "Unit.After": "network-online.target", "Unit.Before": "remote-fs-pre.target lvmlockd.service",
	} {
		for _, w := range strings.Fields(want) {
			if !slices.Contains(u[key], w) {
				t.Errorf("%s has no %s", key, w)
			}
		}
	}
	if u["Service.WatchdogSec"] != nil {
		t.Error("a service watchdog would kill a daemon that holds lockspaces")
	}
}

func TestUnitIsUnderstoodBySystemd(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	data, err := os.ReadFile("quorated.service")
	if err != nil {
		t.Fatal(err)
	}
	// The program is not installed where the tests run.
	path := filepath.Join(t.TempDir(), "quorated.service")
	text := strings.Replace(string(data), "/usr/sbin/quorated", "/bin/true", 1)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool, "verify", "--man=no", path).CombinedOutput()
	for l := range strings.Lines(string(out)) {
		if strings.Contains(l, "quorated.service") {
			t.Errorf("systemd: %s", l)
		}
	}
	if err != nil && len(out) == 0 {
		t.Error(err)
	}
}

func TestRules(t *testing.T) {
	data, err := os.ReadFile("61-quorate.rules")
	if err != nil {
		t.Fatal(err)
	}
	token := regexp.MustCompile(`^(SUBSYSTEM|KERNEL|MODE|SYMLINK|GOTO|LABEL)(==|!=|\+=|=)"[^"]+"$`)
	gotos, labels := []string{}, []string{}
	for l := range strings.Lines(string(data)) {
		l = strings.TrimSpace(l)
		if l == "" || l[0] == '#' {
			continue
		}
		for part := range strings.SplitSeq(l, ", ") {
			if !token.MatchString(part) {
				t.Errorf("%q is no rule", part)
			}
			if s, ok := strings.CutPrefix(part, "GOTO="); ok {
				gotos = append(gotos, s)
			}
			if s, ok := strings.CutPrefix(part, "LABEL="); ok {
				labels = append(labels, s)
			}
		}
	}
	for _, g := range gotos {
		if !slices.Contains(labels, g) {
			t.Errorf("GOTO to %s that is nowhere", g)
		}
	}
	if !strings.Contains(string(data), `KERNEL=="dlm-monitor|dlm_plock", MODE="0600"`) {
		t.Error("dlm-monitor and dlm_plock are not for root alone")
	}
}

func TestModules(t *testing.T) {
	data, err := os.ReadFile("modules-load.conf")
	if err != nil || !slices.Contains(strings.Split(string(data), "\n"), "dlm") {
		t.Errorf("dlm is not loaded: %v", err)
	}
}

// TestWitnessUnitNeedsNothing: a user of its own, one directory, no capability.
func TestWitnessUnitNeedsNothing(t *testing.T) {
	u := unit(t, "quorate-witness.service")
	for key, want := range map[string]string{
		"Service.DynamicUser": "yes", "Service.StateDirectory": "quorate-witness", "Service.StateDirectoryMode": "0700", "Service.CapabilityBoundingSet": "",
		"Service.NoNewPrivileges": "yes", "Service.ProtectSystem": "strict", "Service.Type": "notify", "Service.Restart": "always",
		"Service.ExecStart": "/usr/sbin/quorated --witness --state /var/lib/quorate-witness",
	} {
		if got := strings.Join(u[key], " "); got != want {
			t.Errorf("%s=%s, want %s", key, got, want)
		}
	}
}

// TestDocumentsAreInstalled: what texts name is there, links between them lead nowhere else,
// and all of it follows PREFIX.
func TestDocumentsAreInstalled(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("make is not installed")
	}
	const root = "../../.."
	b, err := exec.Command("make", "-n", "-C", root, "install", "DESTDIR=/d", "PREFIX=/opt/q", "GO=go", "VERSION=x").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	plan := string(b)
	_, docs, _ := strings.Cut(plan, "install -D -m 0644 -t /d/opt/q/share/doc/quorate ")
	docs, _, _ = strings.Cut(docs, "\n")
	installed := map[string]bool{}
	for _, f := range strings.Fields(docs) {
		installed[filepath.Base(f)] = true
	}
	for _, want := range []string{"config.DocDir=/opt/q/share/doc/quorate", "s|/usr/share/doc/quorate|/opt/q/share/doc/quorate|g"} {
		if !strings.Contains(plan, want) {
			t.Errorf("no %s in %s", want, plan)
		}
	}
	named := regexp.MustCompile(`[a-z]+\.md`)
	for _, f := range append(named.FindAllString(documents(), -1), named.FindAllString(Reference, -1)...) {
		if !installed[f] {
			t.Errorf("%s is named and not installed: %s", f, docs)
		}
	}
	if strings.Contains(Reference, "docs/") || !strings.Contains(configPage(BuildDate()), escape(filepath.Join(config.DocDir, "operating.md"))) {
		t.Error("the reference names documents where they are not")
	}
	link := regexp.MustCompile(`\]\(([^)#:]+\.md)`)
	for f := range installed {
		text, err := os.ReadFile(filepath.Join(root, "docs", f))
		if err != nil {
			t.Error(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if !installed[m[1]] {
				t.Errorf("%s leads to %s, which is not installed", f, m[1])
			}
		}
	}
	if len(installed) != 4 {
		t.Errorf("%q are installed", docs)
	}
}
