// Asks a server for / over HTTP/2 and says what was agreed on: ADDRESS NAME CA GROUP.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	address, name, authority, group := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	pem, err := os.ReadFile(authority)
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	config := &tls.Config{RootCAs: roots, ServerName: name, NextProtos: []string{"h2"}}
	switch group {
	case "X25519":
		config.CurvePreferences = []tls.CurveID{tls.X25519}
	case "X25519MLKEM768":
		config.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768}
	}
	dial := func(_ context.Context, network, _ string) (net.Conn, error) {
		return net.Dial(network, address)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DialContext: dial}}
	response, err := client.Get("https://" + name + "/")
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	response.Body.Close()
	fmt.Println(response.StatusCode, response.Proto, response.TLS.CurveID)
}
