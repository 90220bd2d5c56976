package witness

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/quorate/quorate/membership/secret"
)

const identityName = "identity.pem"

// Identity is a witness's certificate with its key.
type Identity struct {
	Certificate tls.Certificate
	Fingerprint [sha256.Size]byte // SHA-256 of the certificate, DER
}

// LoadIdentity reads the identity that is kept in a directory, or makes it. A key that
// others may read is refused.
func LoadIdentity(dir string) (Identity, error) {
	path := filepath.Join(dir, identityName)
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeIdentity(path); err != nil {
			return Identity{}, fmt.Errorf("making the witness's certificate: %w", err)
		}
		st, err = os.Stat(path)
	}
	if err != nil {
		return Identity{}, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return Identity{}, fmt.Errorf("%s can be read by others (mode %04o): chmod 600 it, and have the clusters add the witness anew if anybody may have", path, st.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return Identity{}, err
	}
	pair, err := tls.X509KeyPair(b, b)
	if err != nil {
		return Identity{}, fmt.Errorf("%s holds no certificate and key (%w): restore it, or remove it and add the witness anew to its clusters", path, err)
	}
	return Identity{Certificate: pair, Fingerprint: sha256.Sum256(pair.Certificate[0])}, nil
}

func makeIdentity(path string) error {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: "quorate witness"},
		NotBefore: time.Unix(0, 0).UTC(), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, priv)
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	// Two processes may come to make it at once: the first one's stays.
	if err := write(path, text, os.Link); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// WriteFile writes a file of mode 0600 that is there as a whole or not at all, also after
// a loss of power. Root writes for whom the directory belongs to.
func WriteFile(path string, data []byte) error { return write(path, data, os.Rename) }

func write(path string, data []byte, place func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil && os.Geteuid() == 0 {
		err = giveAway(f, filepath.Dir(path))
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = place(f.Name(), path)
	}
	_ = os.Remove(f.Name()) // where it was not renamed
	if err != nil {
		return err
	}
	return secret.SyncDir(filepath.Dir(path))
}

// giveAway makes the owner of a directory that of a new file. The file is the open
// one: whoever owns the directory may have put another into its place.
func giveAway(f *os.File, dir string) error {
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return f.Chown(int(sys.Uid), int(sys.Gid))
	}
	return nil
}
