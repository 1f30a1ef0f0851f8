#!/usr/bin/env bash
# `npm test`, with the failing files named (and told in full) at the end, where a log that is cut still has them. Tests run real
# sockets and processes against real deadlines, so files that failed get one more chance, alone on the machine.
set -uo pipefail

first=$(mktemp)
again=$(mktemp)
trap 'rm -f "$first" "$again"' EXIT

npm test -- --output-file="$first" "$@" && exit 0

mapfile -t failed < <(LC_ALL=C sed -n 's/^not ok [0-9]* - \([^ ]*\.test\.ts\).*/\1/p' "$first")
if [ "${#failed[@]}" -eq 0 ]; then
  echo "npm test failed, and no file of tests did"
  exit 1
fi

echo "FAILED: ${failed[*]}"
# Each assertion that failed, with what stands below it.
grep -a -n -A 30 '^ *not ok' "$first" | head -c 20000
echo "once more, one at a time: ${failed[*]}"
if npm test -- --jobs=1 --output-file="$again" "${failed[@]}"; then
  echo "FAILED AT FIRST, PASSED ALONE: ${failed[*]}"
  exit 0
fi
grep -a -n -A 30 '^ *not ok' "$again" | head -c 20000
echo "FAILED TWICE, among: ${failed[*]}"
exit 1
