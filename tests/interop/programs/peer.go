// A TLS peer of Go's crypto/tls: `serve` echoes, `connect` copies its standard input and output.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"io"
	"net"
	"os"
)

var groups = map[string]tls.CurveID{
	"X25519": tls.X25519, "P-256": tls.CurveP256, "P-384": tls.CurveP384,
	"X25519MLKEM768": tls.X25519MLKEM768,
}

func must(err error) {
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func main() {
	version := flag.String("version", "TLSv1.3", "")
	group := flag.String("group", "", "")
	ca := flag.String("ca", "", "")
	cert := flag.String("cert", "", "")
	key := flag.String("key", "", "")
	verify := flag.Bool("verify", false, "")
	resume := flag.Bool("resume", false, "")
	flag.Parse()
	role, address := flag.Arg(0), flag.Arg(1)

	pem, err := os.ReadFile(*ca)
	must(err)
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(pem)
	number := map[string]uint16{"TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}[*version]
	config := &tls.Config{
		MinVersion: number, MaxVersion: number, RootCAs: trusted, ClientCAs: trusted,
		ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	if *group != "" {
		config.CurvePreferences = []tls.CurveID{groups[*group]}
	}
	if *cert != "" {
		own, err := tls.LoadX509KeyPair(*cert, *key)
		must(err)
		config.Certificates = []tls.Certificate{own}
	}
	if *verify {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if role == "serve" {
		serve(address, config)
		return
	}
	if *resume {
		first, err := tls.Dial("tcp", address, config)
		must(err)
		// The ticket of TLS 1.3 comes with what the server says.
		_, err = first.Write([]byte("first"))
		must(err)
		_, err = io.ReadFull(first, make([]byte, 5))
		must(err)
		first.Close()
	}
	connection, err := tls.Dial("tcp", address, config)
	must(err)
	go func() {
		io.Copy(connection, os.Stdin)
		connection.CloseWrite()
	}()
	_, err = io.Copy(os.Stdout, connection)
	must(err)
}

func serve(address string, config *tls.Config) {
	listener, err := tls.Listen("tcp", address, config)
	must(err)
	for {
		connection, err := listener.Accept()
		must(err)
		go func(one net.Conn) {
			io.Copy(one, one)
			one.Close()
		}(connection)
	}
}
