package config

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/cmd/quorated/config/internal/quote"
	"pgregory.net/rapid"
)

// The agreed text of a file, completed by that file, says what the file says.
func TestAnAgreedTextIsCompleted(t *testing.T) {
	text := strings.Replace(fleet, "'''\nprivate'''", `'pri"vate\'`, 1)
	own := mustParse(t, text)
	agreed, err := Replicable(text)
	if err != nil {
		t.Fatal(err)
	}
	out, taken, err := Complete(agreed, own)
	if err != nil {
		t.Fatal(err, out)
	}
	want := "cluster.key_file, cluster.kernel, state.dir, password of fence_ipmilan for node alpha, password of fence_ipmilan for node beta, community of fence_apc for node alpha, community of fence_apc for node beta"
	if got := strings.Join(taken, ", "); got != want {
		t.Error(got)
	}
	c := mustParse(t, out)
	if c.KeyFile != own.KeyFile || !c.NoKernel || c.StateDir != own.StateDir || strings.Contains(out, OwnValue) {
		t.Errorf("%+v\n%s", c, out)
	}
	for i, d := range c.Devices {
		for k, v := range own.Devices[i].Options {
			if d.Options[k] != v {
				t.Errorf("%s of %s is not what it was", k, d.Agent)
			}
		}
	}
	if !Says(text, agreed) || !Says(out, agreed) || Says(out+"[liveness]\nprofile = \"lan\"\n", agreed) {
		t.Error("says")
	}
}

// A text that cannot be completed is not written, and the reason has no secret.
func TestWhatCannotBeCompleted(t *testing.T) {
	device := func(nodes, password string) string {
		return "[[fence]]\nnodes = [" + nodes + "]\nagent = \"fence_x\"\noptions = { plug = \"{name}\", password = \"" + password + "\" }\n"
	}
	agreed := two + device(`"alpha", "beta"`, OwnValue)
	for words, file := range map[string]string{
		"not in /etc/q.toml: password of fence_x for node alpha, password of fence_x for node beta; write each": two,
		"not in /etc/q.toml: password of fence_x for node beta":                                                 two + device(`"alpha"`, "hunter2"),
		"password of fence_x for node beta has one value in the agreed configuration":                           two + device(`"alpha"`, "hunter2") + device(`"beta"`, "hunter3"),
	} {
		own := mustParse(t, file)
		own.Path = "/etc/q.toml"
		if out, _, err := Complete(agreed, own); err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "hunter") || out != "" {
			t.Errorf("%q: %v\n%s", words, err, out)
		}
	}
	split := two + device(`"alpha"`, OwnValue) + device(`"beta"`, OwnValue)
	out, _, err := Complete(split, mustParse(t, two+device(`"alpha"`, "hunter2")+device(`"beta"`, "hunter3")))
	if err != nil || !strings.Contains(out, "hunter2") || !strings.Contains(out, "hunter3") {
		t.Error(err, out)
	}
}

// Whatever a secret is made of, the file has it again.
func TestASecretIsWrittenAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := strings.NewReplacer("\n", "", "\r", "", "\x00", "").Replace(rapid.String().Draw(t, "secret"))
		if secret == "" || secret == OwnValue {
			return
		}
		file := two + "[[fence]]\nnodes = [\"alpha\"]\nagent = \"fence_x\"\n[fence.options]\npassword = " + quote.TOML(secret) + "\n"
		own, err := ParseAgreed(file)
		if err != nil || own.Devices[0].Options["password"] != secret {
			t.Fatalf("%v: %q", err, file)
		}
		agreed, err := Replicable(file)
		if err != nil {
			t.Fatal(err)
		}
		if out, _, err := Complete(agreed, own); err != nil || out != file {
			t.Fatalf("%v: %q is not %q", err, out, file)
		}
	})
}

// Secrets of a file that are not in use are named, and what is in use by a file is not.
func TestSecretsThatAreNotInUse(t *testing.T) {
	device := func(nodes, options string) string {
		return two + "[[fence]]\nnodes = [" + nodes + "]\nagent = \"fence_x\"\noptions = { plug = \"{name}\", " + options + " }\n"
	}
	now := mustParse(t, device(`"alpha", "beta"`, `password = "hunter2"`))
	for _, c := range []struct{ file, want string }{
		{device(`"alpha", "beta"`, `password = "hunter2"`), ""},
		{device(`"alpha", "beta"`, `password_file = "/etc/pw"`), ""},
		{device(`"alpha"`, `password = "sesame"`), "password of fence_x for node alpha in /etc/q.toml differs from the one in use: "},
		{device(`"alpha", "beta"`, `password = "sesame"`), "password of fence_x for node alpha, password of fence_x for node beta in /etc/q.toml differ from those in use: "},
		{two, ""},
	} {
		file := mustParse(t, c.file)
		file.Path = "/etc/q.toml"
		if got := OtherSecrets(file, now); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" || strings.Contains(got, "sesame") || strings.Contains(got, "hunter") {
			t.Errorf("%s\n%s", c.file, got)
		}
	}
}
