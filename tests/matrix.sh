#!/usr/bin/env bash
# Run the tests in other releases of Debian: `tests/matrix.sh SUITE … [-- ARGS]`, trixie and forky by default.
#
# Each has a root folder of its own, made by debootstrap, in which `make test ARGS=…` runs on the last commit: so other
# versions of Python, SQLite, PyAV and pip are tested than those of this machine. What is installed there stays for the
# next time; the folder is $MATRIX_FOLDER. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${MATRIX_FOLDER:-/var/tmp/mediasql-matrix}
suites=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do suites+=("$1"); shift; done
if [ $# -gt 0 ]; then shift; fi
[ ${#suites[@]} -gt 0 ] || suites=(trixie forky)

if [ "$(id -u)" != 0 ]; then
  echo "tests/matrix.sh: it makes root folders, and so has to run as root: sudo make matrix" >&2
  exit 1
fi
command -v debootstrap >/dev/null || apt-get install -q -y debootstrap
mirror=$(apt-get indextargets --format "\$(SITE)" | head -n 1)
as_here() { # what leads to the registries of packages, as on this machine
  env | grep -E '^(PIP_|npm_config_|SSL_CERT_|REQUESTS_CA_|CURL_CA_|NODE_EXTRA_CA_)|_proxy=' || true
}

make_root() {
  local suite=$1 root=$2 script=/usr/share/debootstrap/scripts/$1
  [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid # a release that this debootstrap does not know yet
  rm -rf --one-file-system "$root" # debootstrap cannot go on with one that is half made
  mkdir -p "$root"
  debootstrap --variant=minbase --include=ca-certificates,make,python3,python3-venv "$suite" "$root" "$mirror" "$script" \
    >"$root.log" 2>&1 || { tail "$root.log" >&2; return 1; }
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no service is started
  chmod +x "$root/usr/sbin/policy-rc.d"
  touch "$root.made"
}

prepare() {
  local root=$1 file
  for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt /etc/pip.conf ~/.config/pip/pip.conf ~/.npmrc; do
    if [ -e "$file" ]; then install -D -m 644 "$file" "$root$file"; fi
  done
  mkdir -p "$root/src"
  find "$root/src" -mindepth 1 -maxdepth 1 ! -name .venv ! -name node_modules -exec rm -rf {} +
  git archive HEAD | tar -x -C "$root/src" # what is built here fits this machine only
}

# The namespaces end with the run, and with them what was mounted and started. A run in the background ignores SIGINT,
# which tests send. Without the right to raise priorities, as in most containers.
# shellcheck disable=SC2016
run() {
  local root=$1 given
  shift
  mapfile -t given < <(as_here)
  unshare --mount --pid --fork --kill-child env --default-signal=INT,QUIT bash -euc '
    root=$1; shift
    mount --make-rprivate /
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/tmp"
    exec setpriv --bounding-set=-sys_nice --inh-caps=-sys_nice chroot "$root" "$@"
  ' outside "$root" env -i HOME=/root LANG=C.UTF-8 TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "${given[@]}" bash -euc '
    version=$(python3 -c "import sys; print(\"%d.%d\" % sys.version_info[:2])")
    if ! command -v make || ! ldconfig -p | grep -q "libpython$version"; then # through which programs load mediasql
      apt-get update -q
      DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends make procps "libpython$version"
    fi >/var/log/mediasql-matrix.log 2>&1 || { tail /var/log/mediasql-matrix.log; exit 1; }
    cd /src
    make --jobs=2 venv servers >/var/log/mediasql-matrix.log 2>&1 || { tail -n 30 /var/log/mediasql-matrix.log; exit 1; }
    . /etc/os-release
    echo "== $PRETTY_NAME: $(python3 --version), SQLite $(sqlite3 --version | cut -d" " -f1) in the shell," \
      "$(.venv/bin/python -c "import sqlite3, av; print(sqlite3.sqlite_version, \"in Python, PyAV\", av.__version__)")"
    make --no-print-directory test ARGS="$*"
  ' inside "$@"
}

failed=()
for suite in "${suites[@]}"; do
  root=$folder/$suite
  if [ ! -e "$root.made" ]; then make_root "$suite" "$root"; fi
  prepare "$root"
  run "$root" "$@" || failed+=("$suite")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "tests/matrix.sh: failed in ${failed[*]}" >&2
  exit 1
fi
