package daemon

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/quorate/quorate/cmd/quorated/control"
	"github.com/quorate/quorate/cmd/quorated/node"
	"github.com/quorate/quorate/membership"
	"github.com/quorate/quorate/membership/cluster"
	"github.com/quorate/quorate/membership/secret"
	"github.com/quorate/quorate/membership/witness"
)

// openWitness makes the connection's keeper. Which witness, the machine says.
func (d *Daemon) openWitness() {
	d.witness = witness.NewClient(d.introduction(), handler{d}, d.log)
	d.keys.renewed = d.witness.Renew // the witness is told of a new authority while the old one vouches
}

// introduction is what a witness is told of this cluster, but for its id. It is made
// outside the loop, too.
func (d *Daemon) introduction() witness.Cluster {
	cfg := d.cfgNow()
	return witness.Cluster{Name: cfg.Cluster, Self: cfg.Self, Nodes: cfg.IDs(), Interval: cfg.Timing.Interval, DeadAfter: cfg.Timing.DeadAfter,
		Secret: func() secret.Secret { return *d.keys.loaded.Load() }}
}

// send sends to a peer, or to the witness.
func (d *Daemon) send(e node.Send) {
	if e.To.IsWitness() {
		d.witness.Send(e.To, e.Data)
		return
	}
	d.comm.Send(e.To, e.Data)
}

func (d *Daemon) dialWitness(e node.DialWitness) {
	if e.Witness == nil {
		d.witness.Set(nil)
		return
	}
	d.witness.Set(&witness.Target{ID: e.Witness.ID, Addr: e.Witness.Addr, Fingerprint: e.Witness.Fingerprint, ClusterID: e.ClusterID})
}

// addWitness introduces the cluster to the witness that made a token, then has it
// agreed. What would be refused is refused before the token is used up.
func (d *Daemon) addWitness(ctx context.Context, req control.Request) control.Response {
	t, err := witness.ParseToken(req.Token)
	if err != nil {
		return control.Response{Error: err.Error()}
	}
	if time.Now().After(t.Expires.Add(time.Hour)) { // clocks may differ: the witness's own word is the one that counts
		return control.Response{Error: fmt.Sprintf("this token was good until %s: make another on the witness with `quorated --witness token`", t.Expires.UTC().Format(time.RFC3339))}
	}
	w := &cluster.Witness{Name: "witness", Addr: t.Addr, Fingerprint: hex.EncodeToString(t.Fingerprint[:])}
	var id, why string
	if err := d.do(ctx, func() {
		why = d.node.RefusesWitness(w)
		id = d.node.Status(boottime(), nil).ID
	}); err != nil {
		return control.Response{Error: "the daemon is ending"}
	}
	if why != "" {
		return control.Response{Error: why}
	}
	c := d.introduction()
	c.ID = id
	if w.Name, err = witness.Enrol(ctx, t, c); err != nil {
		return control.Response{Error: fmt.Sprintf("%v; the token can be used again, unless the witness says that it was", err)}
	}
	d.note(membership.KindWitness, "", fmt.Sprintf("%s at %s has enrolled this cluster", w.Name, w.Addr))
	return d.operate(ctx, req, w)
}
