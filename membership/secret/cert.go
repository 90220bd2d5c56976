package secret

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// Every certificate is valid for as long as X.509 can say, and is checked at
// one moment, so that clocks play no part.
var (
	notBefore = time.Unix(0, 0).UTC()
	notAfter  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	checkTime = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
)

// CheckTime is the moment at which certificates are checked: tls.Config.Time.
func CheckTime() time.Time { return checkTime }

// authority returns the key's certificate authority, the same at every node.
func (k *key) authority() (*x509.Certificate, ed25519.PrivateKey, error) {
	seed, err := k.derive("tls authority ed25519", ed25519.SeedSize)
	if err != nil {
		return nil, nil, err
	}
	priv := ed25519.NewKeyFromSeed(seed)
	id, err := k.derive("tls authority key id", 20)
	if err != nil {
		return nil, nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "quorate cluster authority"},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		SubjectKeyId:          id,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, priv.Public(), priv)
	if err != nil {
		return nil, nil, fmt.Errorf("making the cluster's authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("making the cluster's authority: %w", err)
	}
	return cert, priv, nil
}

// Roots returns the authorities of all keys: whom to believe.
func (s Secret) Roots() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, k := range s.keys {
		cert, _, err := k.authority()
		if err != nil {
			return nil, err
		}
		pool.AddCert(cert)
	}
	return pool, nil
}

// Leaf makes a certificate for name with a fresh private key that exists in
// this process alone, signed with the key to send with.
func (s Secret) Leaf(name *url.URL) (tls.Certificate, error) {
	if s.Empty() {
		return tls.Certificate{}, errors.New("making a certificate: the secret holds no key")
	}
	ca, caKey, err := s.keys[0].authority()
	if err != nil {
		return tls.Certificate{}, err
	}
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: "quorated"},
		NotBefore:    notBefore,
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:         []*url.URL{name},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca, pub, caKey)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: priv}, nil
}
