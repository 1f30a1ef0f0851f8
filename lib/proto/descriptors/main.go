// Command descriptors writes one google.protobuf.FileDescriptorSet to standard output: every protobuf file that the
// packages imported by imports.go register, and everything those files import, in dependency order.
//
// The Go packages of go-control-plane carry the serialized descriptors of Envoy's current API, with custom options
// (validation rules, deprecation, security annotations) and without comments, so no protobuf compiler is needed.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	// Well-known types that JSON uses even where no Envoy file names them.
	_ "google.golang.org/protobuf/types/known/anypb"
	_ "google.golang.org/protobuf/types/known/durationpb"
	_ "google.golang.org/protobuf/types/known/emptypb"
	_ "google.golang.org/protobuf/types/known/fieldmaskpb"
	_ "google.golang.org/protobuf/types/known/structpb"
	_ "google.golang.org/protobuf/types/known/timestamppb"
	_ "google.golang.org/protobuf/types/known/wrapperspb"
)

func main() {
	set := collect(protoregistry.GlobalFiles)
	bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(set)
	if err == nil {
		_, err = os.Stdout.Write(bytes)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintf(os.Stderr, "%d files, %d bytes\n", len(set.File), len(bytes))
}

// collect starts from the files that configuration can name and adds what they import. Files that are linked in only
// because a Go dependency registers them (the v2 API, other libraries) are left out.
func collect(files *protoregistry.Files) *descriptorpb.FileDescriptorSet {
	var roots []protoreflect.FileDescriptor
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if wanted(string(file.Package())) {
			roots = append(roots, file)
		}
		return true
	})
	sort.Slice(roots, func(i, j int) bool { return roots[i].Path() < roots[j].Path() })
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	for _, file := range roots {
		add(set, seen, file)
	}
	return set
}

func wanted(pkg string) bool {
	if strings.HasPrefix(pkg, "envoy.") {
		return strings.HasSuffix(pkg, ".v3") || pkg == "envoy.annotations"
	}
	for _, prefix := range []string{"xds.", "udpa.", "google.protobuf", "google.rpc", "validate"} {
		if strings.HasPrefix(pkg, prefix) {
			return true
		}
	}
	return false
}

// add puts the imports of a file before the file itself: readers may then register the set in one pass.
func add(set *descriptorpb.FileDescriptorSet, seen map[string]bool, file protoreflect.FileDescriptor) {
	if seen[file.Path()] {
		return
	}
	seen[file.Path()] = true
	for i := 0; i < file.Imports().Len(); i++ {
		add(set, seen, file.Imports().Get(i).FileDescriptor)
	}
	out := protodesc.ToFileDescriptorProto(file)
	out.SourceCodeInfo = nil
	out.Options.ProtoReflect().Range(dropLanguageOption(out.Options.ProtoReflect()))
	set.File = append(set.File, out)
}

// dropLanguageOption removes file options that only generators of other languages read; they are a tenth of the size.
func dropLanguageOption(options protoreflect.Message) func(protoreflect.FieldDescriptor, protoreflect.Value) bool {
	return func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		name := string(field.Name())
		for _, prefix := range []string{"java_", "go_", "cc_", "objc_", "csharp_", "php_", "ruby_", "swift_", "py_"} {
			if strings.HasPrefix(name, prefix) {
				options.Clear(field)
			}
		}
		return true
	}
}
