// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"
)

// A client without a certificate, whose first words come when the server has already closed the connection, learns the reason.
func TestAServerThatWantsACertificateSaysSo(t *testing.T) {
	conn := closedAfterHandshake(t, tls.RequireAnyClientCert)
	if err := writeUntilItFails(t, conn); !strings.Contains(err.Error(), "certificate required") {
		t.Fatalf("the client was told %v", err)
	}
}

// Nor is it left with a broken pipe or an EOF by a server that says nothing.
func TestAServerThatClosesAfterTheHandshakeIsExplained(t *testing.T) {
	conn := closedAfterHandshake(t, tls.NoClientCert)
	if err := writeUntilItFails(t, conn); !strings.Contains(err.Error(), "may want a client certificate") {
		t.Errorf("the client that writes was told %v", err)
	}
	conn = closedAfterHandshake(t, tls.NoClientCert)
	if _, err := conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "may want a client certificate") {
		t.Errorf("the client that reads was told %v", err)
	}
	conn = closedAfterHandshake(t, tls.NoClientCert)
	_ = conn.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "certificate") {
		t.Errorf("the client that has closed the connection itself was told %v", err)
	}
}

func writeUntilItFails(t *testing.T, conn net.Conn) error {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); { // the first words may still find room
		if _, err := conn.Write([]byte("PRI * HTTP/2.0")); err != nil {
			return err
		}
	}
	t.Fatal("the connection does not end")
	return nil
}

// closedAfterHandshake is a client's connection, which the server has closed already.
func closedAfterHandshake(t *testing.T, wanted tls.ClientAuthType) net.Conn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	certificate, authorities := selfSigned(t)
	closed := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			config := &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: wanted, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13}
			_ = tls.Server(conn, config).Handshake()
			err = conn.Close()
		}
		closed <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ours := tellingCredentials{credentials.NewTLS(&tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS13})}.Clone()
	conn, _, err := ours.ClientHandshake(ctx, "127.0.0.1", raw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	return conn
}

func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	encoded, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(encoded)
	if err != nil {
		t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{encoded}, PrivateKey: key}, authorities
}
