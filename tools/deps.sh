#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages of the named sections of packages.txt (default: all). Does nothing when they are there.
set -eu

list=$(dirname "$0")/packages.txt
sections=${*:-build test check}

wanted() {
  awk -v sections=" $sections " '
    /^#/ || NF == 0 { next }
    /^\[/ { section = substr($1, 2, length($1) - 2); next }
    index(sections, " " section " ") { print $1, $2 }' "$list" |
    while read -r package program; do
      if [ -z "$program" ] || ! command -v "$program" >/dev/null 2>&1; then
        echo "$package"
      fi
    done
}

if ! command -v dpkg-query >/dev/null 2>&1; then
  echo "deps: not a Debian machine; please install what tools/packages.txt names" >&2
  exit 0
fi
# Also right for packages of which several architectures are known.
installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p')
missing=
for package in $(wanted); do
  if ! echo "$installed" | grep -qx "$package"; then
    missing="$missing $package"
  fi
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null 2>&1; then
    echo "deps: please install as root:$missing" >&2
    exit 1
  fi
  as_root="sudo -E"
fi
echo "deps: installing$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -q
# A package may bring a service (prometheus comes for its promtool): none is to be started here.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap '$as_root rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
  $as_root chmod +x $policy
fi
# shellcheck disable=SC2086 # a list of words
$as_root apt-get install -q -y --no-install-recommends $missing
