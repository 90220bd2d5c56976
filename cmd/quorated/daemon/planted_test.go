package daemon

import (
	"context"
	"strings"
	"testing"
)

// A misspelt rule would leave nothing out, and a test of what its lack does would
// have tried a sound daemon.
func TestAnUnknownRuleIsRefused(t *testing.T) {
	err := Run(context.Background(), Options{Break: "skip-fense"})
	if err == nil || !strings.Contains(err.Error(), "skip-fense") || !strings.Contains(err.Error(), "skip-fence") {
		t.Fatal(err)
	}
}
