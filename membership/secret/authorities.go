package secret

// Authorities are the certificates of all keys' authorities, DER: their public
// part, the same at every node. The first is that of the key to send with.
func (s Secret) Authorities() ([][]byte, error) {
	out := make([][]byte, 0, len(s.keys))
	for _, k := range s.keys {
		cert, _, err := k.authority()
		if err != nil {
			return nil, err
		}
		out = append(out, cert.Raw)
	}
	return out, nil
}
