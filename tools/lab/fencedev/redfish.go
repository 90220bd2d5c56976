package fencedev

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"time"
)

// User and Password are what the Redfish service asks for.
const (
	User     = "lab"
	Password = "lab"
)

const systems = "/redfish/v1/Systems"

// resetTypes are the Redfish words for actions. A graceful one is forced, for
// nothing in a node would listen.
var resetTypes = map[string]Action{
	"On": On, "ForceOn": On, "ForceOff": Off, "GracefulShutdown": Off,
	"ForceRestart": Reboot, "GracefulRestart": Reboot, "PowerCycle": Reboot,
}

// Redfish is the service: node n is /redfish/v1/Systems/n.
func (s *Switch) Redfish() http.Handler {
	mux := http.NewServeMux()
	root := func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 200, object{"@odata.id": "/redfish/v1", "RedfishVersion": "1.6.0", "Systems": ref(systems)})
	}
	mux.HandleFunc("GET /redfish/v1", root)
	mux.HandleFunc("GET /redfish/v1/{$}", root)
	mux.HandleFunc("GET "+systems, func(w http.ResponseWriter, _ *http.Request) {
		members := []object{}
		for _, p := range s.Plugs() {
			members = append(members, ref(system(p)))
		}
		reply(w, 200, object{"@odata.id": systems, "Members": members, "Members@odata.count": len(members)})
	})
	mux.HandleFunc("GET "+systems+"/{plug}", s.getSystem)
	mux.HandleFunc("POST "+systems+"/{plug}/Actions/ComputerSystem.Reset", s.reset)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != User || p != Password {
			w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
			fault(w, http.StatusUnauthorized, errors.New("user and password are wanted"))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

type object map[string]any

func ref(uri string) object { return object{"@odata.id": uri} }

func system(plug int) string { return fmt.Sprintf("%s/%d", systems, plug) }

func (s *Switch) getSystem(w http.ResponseWriter, r *http.Request) {
	plug, _ := strconv.Atoi(r.PathValue("plug"))
	on, err := s.Do(r.Context(), "redfish", r.RemoteAddr, plug, Status)
	if err != nil {
		fault(w, status(err), err)
		return
	}
	state := "Off"
	if on {
		state = "On"
	}
	words := []string{}
	for t := range resetTypes {
		words = append(words, t)
	}
	reply(w, 200, object{
		"@odata.id": system(plug), "Id": strconv.Itoa(plug), "Name": fmt.Sprintf("node%d", plug), "PowerState": state,
		"Actions": object{"#ComputerSystem.Reset": object{
			"target": system(plug) + "/Actions/ComputerSystem.Reset", "ResetType@Redfish.AllowableValues": words}},
	})
}

func (s *Switch) reset(w http.ResponseWriter, r *http.Request) {
	var body struct{ ResetType string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&body); err != nil {
		fault(w, http.StatusBadRequest, err)
		return
	}
	a, ok := resetTypes[body.ResetType]
	if !ok {
		fault(w, http.StatusBadRequest, fmt.Errorf("ResetType %q: %w", body.ResetType, ErrAction))
		return
	}
	plug, _ := strconv.Atoi(r.PathValue("plug"))
	if _, err := s.Do(r.Context(), "redfish", r.RemoteAddr, plug, a); err != nil {
		fault(w, status(err), err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func status(err error) int {
	if errors.Is(err, ErrPlug) {
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("OData-Version", "4.0")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(v)
}

func fault(w http.ResponseWriter, code int, err error) {
	reply(w, code, object{"error": object{"code": "Base.1.0.GeneralError", "message": err.Error()}})
}

// Certificate is a new self-signed certificate for an address, valid for a week.
func Certificate(ip net.IP) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "quorate lab"}, IPAddresses: []net.IP{ip},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(7 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
