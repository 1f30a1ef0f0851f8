// A management server on go-control-plane's snapshot cache, told what to serve by JSON lines on standard input and
// telling what it sees by JSON lines on standard output. Interop tests and examples/xds-envoy run it.
//
//	{"op":"snapshot","node":"n","versions":{"TYPE":"1"},"resources":[{"@type":"TYPE","name":"..."}]}
//	{"op":"clear","node":"n"}   {"op":"stop"}   {"op":"start"}
//
// Resources without a version of their type in "versions" have the version of the line ("version").
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	clusterservice "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	endpointservice "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	listenerservice "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	routeservice "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	runtimeservice "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	secretservice "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"

	// Types that resources may hold inside an Any: protojson finds them by their registration.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

type command struct {
	Op        string            `json:"op"`
	Node      string            `json:"node"`
	Version   string            `json:"version"`
	Versions  map[string]string `json:"versions"`
	Resources []json.RawMessage `json:"resources"`
}

type event struct {
	Event   string   `json:"event"`
	Port    int      `json:"port,omitempty"`
	Stream  int64    `json:"stream,omitempty"`
	Delta   bool     `json:"delta,omitempty"`
	Type    string   `json:"type,omitempty"`
	Node    string   `json:"node,omitempty"`
	Version string   `json:"version,omitempty"`
	Nonce   string   `json:"nonce,omitempty"`
	Error   string   `json:"error,omitempty"`
	Names   []string `json:"names,omitempty"`
	Removed []string `json:"removed,omitempty"`
	Initial int      `json:"initial,omitempty"`
}

var out sync.Mutex

func say(e event) {
	text, err := json.Marshal(e)
	if err != nil {
		log.Fatal(err)
	}
	out.Lock()
	defer out.Unlock()
	fmt.Println(string(text))
}

func typeName(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }

type nodeName struct{}

func (nodeName) ID(node *core.Node) string { return node.GetId() }

// watching reports what clients do; the nodes of streams are kept because later requests leave them out.
type watching struct{ nodes sync.Map }

func (w *watching) nodeOf(stream int64, node *core.Node) string {
	if node.GetId() != "" {
		w.nodes.Store(stream, node.GetId())
		return node.GetId()
	}
	if id, ok := w.nodes.Load(stream); ok {
		return id.(string)
	}
	return ""
}

func (w *watching) OnStreamOpen(_ context.Context, stream int64, url string) error {
	say(event{Event: "open", Stream: stream, Type: typeName(url)})
	return nil
}

func (w *watching) OnStreamClosed(stream int64, _ *core.Node) {
	w.nodes.Delete(stream)
	say(event{Event: "closed", Stream: stream})
}

func (w *watching) OnDeltaStreamOpen(_ context.Context, stream int64, url string) error {
	say(event{Event: "open", Stream: stream, Delta: true, Type: typeName(url)})
	return nil
}

func (w *watching) OnDeltaStreamClosed(stream int64, _ *core.Node) {
	w.nodes.Delete(stream)
	say(event{Event: "closed", Stream: stream, Delta: true})
}

func (w *watching) OnStreamRequest(stream int64, r *discovery.DiscoveryRequest) error {
	say(event{
		Event: "request", Stream: stream, Type: typeName(r.GetTypeUrl()), Node: w.nodeOf(stream, r.GetNode()),
		Version: r.GetVersionInfo(), Nonce: r.GetResponseNonce(), Error: r.GetErrorDetail().GetMessage(), Names: r.GetResourceNames(),
	})
	return nil
}

func (w *watching) OnStreamResponse(_ context.Context, stream int64, r *discovery.DiscoveryRequest, a *discovery.DiscoveryResponse) {
	say(event{Event: "response", Stream: stream, Type: typeName(a.GetTypeUrl()), Version: a.GetVersionInfo(), Nonce: a.GetNonce()})
}

func (w *watching) OnStreamDeltaRequest(stream int64, r *discovery.DeltaDiscoveryRequest) error {
	say(event{
		Event: "request", Stream: stream, Delta: true, Type: typeName(r.GetTypeUrl()), Node: w.nodeOf(stream, r.GetNode()),
		Nonce: r.GetResponseNonce(), Error: r.GetErrorDetail().GetMessage(), Names: r.GetResourceNamesSubscribe(),
		Removed: r.GetResourceNamesUnsubscribe(), Initial: len(r.GetInitialResourceVersions()),
	})
	return nil
}

func (w *watching) OnStreamDeltaResponse(stream int64, r *discovery.DeltaDiscoveryRequest, a *discovery.DeltaDiscoveryResponse) {
	names := []string{}
	for _, r := range a.GetResources() {
		names = append(names, r.GetName())
	}
	say(event{
		Event: "response", Stream: stream, Delta: true, Type: typeName(a.GetTypeUrl()), Version: a.GetSystemVersionInfo(),
		Nonce: a.GetNonce(), Names: names, Removed: a.GetRemovedResources(),
	})
}

func (w *watching) OnFetchRequest(context.Context, *discovery.DiscoveryRequest) error { return nil }

func (w *watching) OnFetchResponse(*discovery.DiscoveryRequest, *discovery.DiscoveryResponse) {}

func snapshotOf(c command) (*cache.Snapshot, error) {
	byType := map[string][]types.Resource{}
	for _, raw := range c.Resources {
		var wrapped anypb.Any
		if err := protojson.Unmarshal(raw, &wrapped); err != nil {
			return nil, err
		}
		message, err := wrapped.UnmarshalNew()
		if err != nil {
			return nil, err
		}
		byType[wrapped.GetTypeUrl()] = append(byType[wrapped.GetTypeUrl()], message)
	}
	snapshot := &cache.Snapshot{}
	for i := types.ResponseType(0); i < types.UnknownType; i++ {
		url, err := cache.GetResponseTypeURL(i)
		if err != nil {
			return nil, err
		}
		version, ok := c.Versions[typeName(url)]
		if !ok {
			version = c.Version
		}
		snapshot.Resources[i] = cache.NewResources(version, byType[url])
		delete(byType, url)
	}
	for url := range byType {
		return nil, fmt.Errorf("a snapshot has no place for %s", url)
	}
	return snapshot, nil
}

func credentialsOf(cert, key, ca string) (credentials.TransportCredentials, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(text) {
			return nil, errors.New("no certificate in " + ca)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return credentials.NewTLS(config), nil
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address")
	ads := flag.Bool("ads", true, "answer named requests only once all resources of the snapshot are asked for, as ADS wants")
	cert := flag.String("cert", "", "certificate, PEM; without it plaintext")
	key := flag.String("key", "", "its key")
	ca := flag.String("ca", "", "authorities of clients; without it none is asked for")
	flag.Parse()
	options := []grpc.ServerOption{
		grpc.MaxConcurrentStreams(1000),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	}
	if *cert != "" {
		secured, err := credentialsOf(*cert, *key, *ca)
		if err != nil {
			log.Fatal(err)
		}
		options = append(options, grpc.Creds(secured))
	}
	snapshots := cache.NewSnapshotCache(*ads, nodeName{}, nil)
	xds := server.NewServer(context.Background(), snapshots, &watching{})
	address := *listen
	var running *grpc.Server
	start := func() {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			log.Fatal(err)
		}
		address = listener.Addr().String()
		running = grpc.NewServer(options...)
		discovery.RegisterAggregatedDiscoveryServiceServer(running, xds)
		clusterservice.RegisterClusterDiscoveryServiceServer(running, xds)
		endpointservice.RegisterEndpointDiscoveryServiceServer(running, xds)
		listenerservice.RegisterListenerDiscoveryServiceServer(running, xds)
		routeservice.RegisterRouteDiscoveryServiceServer(running, xds)
		runtimeservice.RegisterRuntimeDiscoveryServiceServer(running, xds)
		secretservice.RegisterSecretDiscoveryServiceServer(running, xds)
		go func(s *grpc.Server) { _ = s.Serve(listener) }(running)
		say(event{Event: "listening", Port: listener.Addr().(*net.TCPAddr).Port})
	}
	start()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 256<<20)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			say(event{Event: "wrong", Error: err.Error()})
			continue
		}
		switch c.Op {
		case "snapshot":
			snapshot, err := snapshotOf(c)
			if err == nil {
				err = snapshots.SetSnapshot(context.Background(), c.Node, snapshot)
			}
			if err != nil {
				say(event{Event: "wrong", Error: err.Error()})
			} else {
				say(event{Event: "set", Node: c.Node, Version: c.Version})
			}
		case "clear":
			snapshots.ClearSnapshot(c.Node)
			say(event{Event: "set", Node: c.Node})
		case "stop":
			running.Stop()
			say(event{Event: "stopped"})
		case "start":
			start()
		default:
			say(event{Event: "wrong", Error: "no such op: " + c.Op})
		}
	}
	running.Stop()
}
