package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// writeKeys writes the keys that the components know each other by: the one that signs the tokens of
// service accounts, and the certificate with which the API server comes to the kubelet. Its own
// certificate the API server makes itself.
func writeKeys(dir string) error {
	accounts, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&accounts.PublicKey)
	if err != nil {
		return err
	}
	authority, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	client, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "weft-kube"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root, err := x509.CreateCertificate(rand.Reader, &template, &template, &authority.PublicKey, authority)
	if err != nil {
		return err
	}
	leaf := x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}},
		NotBefore: template.NotBefore, NotAfter: template.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	signed, err := x509.CreateCertificate(rand.Reader, &leaf, &template, &client.PublicKey, authority)
	if err != nil {
		return err
	}
	clientKey, err := x509.MarshalECPrivateKey(client)
	if err != nil {
		return err
	}
	for name, block := range map[string]pem.Block{
		"accounts.key":       {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(accounts)},
		"accounts.pub":       {Type: "PUBLIC KEY", Bytes: public},
		"kubelet-ca.crt":     {Type: "CERTIFICATE", Bytes: root},
		"kubelet-client.crt": {Type: "CERTIFICATE", Bytes: signed},
		"kubelet-client.key": {Type: "EC PRIVATE KEY", Bytes: clientKey},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&block), 0o600); err != nil {
			return err
		}
	}
	return nil
}
