// A control plane in one file, on go-control-plane: serves the resources of a JSON file to every proxy that asks, and
// serves them anew whenever the file is written.
//
//	go run -C examples/xds-envoy/control-plane .
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	// Types that are used inside an Any.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

// All proxies get the same resources.
type everybody struct{}

func (everybody) ID(*core.Node) string { return "all" }

func read(path string) (map[string][]types.Resource, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var entries []json.RawMessage
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, err
	}
	resources := map[string][]types.Resource{}
	for _, entry := range entries {
		var wrapped anypb.Any
		if err := protojson.Unmarshal(entry, &wrapped); err != nil {
			return nil, err
		}
		message, err := wrapped.UnmarshalNew()
		if err != nil {
			return nil, err
		}
		resources[wrapped.GetTypeUrl()] = append(resources[wrapped.GetTypeUrl()], message)
	}
	return resources, nil
}

func main() {
	address := flag.String("listen", "127.0.0.1:18000", "where proxies come to")
	file := flag.String("file", "../resources.json", "what they get")
	flag.Parse()
	snapshots := cache.NewSnapshotCache(true, everybody{}, nil)
	callbacks := server.CallbackFuncs{
		StreamRequestFunc: func(_ int64, r *discovery.DiscoveryRequest) error {
			if detail := r.GetErrorDetail(); detail != nil {
				fmt.Println("refused:", detail.GetMessage())
			}
			return nil
		},
	}
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	services := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(services, server.NewServer(context.Background(), snapshots, callbacks))
	go func() { log.Fatal(services.Serve(listener)) }()
	fmt.Println("control plane on", listener.Addr())
	var served time.Time
	for version := 1; ; time.Sleep(200 * time.Millisecond) {
		stat, err := os.Stat(*file)
		if err != nil || stat.ModTime().Equal(served) {
			continue
		}
		served = stat.ModTime()
		resources, err := read(*file)
		if err != nil {
			fmt.Println("not served:", err)
			continue
		}
		snapshot, err := cache.NewSnapshot(strconv.Itoa(version), resources)
		if err == nil {
			err = snapshots.SetSnapshot(context.Background(), "all", snapshot)
		}
		if err != nil {
			fmt.Println("not served:", err)
			continue
		}
		fmt.Println("serving version", version)
		version++
	}
}
