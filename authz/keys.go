package authz

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const (
	algHS256 = "HS256"
	algRS256 = "RS256"
	algES256 = "ES256"
	algEdDSA = "EdDSA"
)

// minRSABits is what RFC 7518 asks of RS256.
const minRSABits = 2048

// algFor returns the one algorithm that a public key may be used with. A key
// that fits several, or none, is where confusion of algorithms begins.
func algFor(key any) (string, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits {
			return "", fmt.Errorf("RSA key has %d bits, at least %d are needed", bits, minRSABits)
		}
		return algRS256, nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return "", fmt.Errorf("elliptic curve %s does not fit ES256, only P-256 does", k.Curve.Params().Name)
		}
		return algES256, nil
	case ed25519.PublicKey:
		return algEdDSA, nil
	}
	return "", fmt.Errorf("key type %T is not RSA, P-256 or Ed25519", key)
}

// parsePublicKey reads the one public key of a PEM text and says which
// algorithm it is for.
func parsePublicKey(text []byte) (key any, alg string, err error) {
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, "", errors.New("is not PEM: it must begin with -----BEGIN PUBLIC KEY-----")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, "", errors.New("does not hold just one key in PEM, and nothing after it")
	}
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = cert.PublicKey
		}
	default:
		// Most likely a private key, which has no business on this server.
		return nil, "", fmt.Errorf("holds a %q block of PEM: give the public key", block.Type)
	}
	if err != nil {
		return nil, "", fmt.Errorf("holds a key that cannot be read: %w", err)
	}
	if alg, err = algFor(key); err != nil {
		return nil, "", fmt.Errorf("holds a key that cannot be used: %w", err)
	}
	return key, alg, nil
}

// minSecretBytes is the shortest shared secret: one that is shorter can be
// guessed from a token, without the server. One of less than adviceSecretBytes
// still gets a warning.
const minSecretBytes = 16

// checkSecret refuses secrets that protect nothing.
func checkSecret(secret []byte) error {
	switch {
	case len(bytes.TrimSpace(secret)) == 0:
		return errors.New("is empty")
	case bytes.Contains(secret, []byte("-----BEGIN ")):
		// Whoever has the public key could sign.
		return errors.New("is a PEM text: give it as the public key")
	case len(secret) < minSecretBytes:
		return fmt.Errorf("has less than %d bytes and can be guessed: use 32 random ones", minSecretBytes)
	}
	return nil
}
