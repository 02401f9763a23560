#!/usr/bin/env bash
# Install what the test servers need beyond Python, and is not there yet: Debian packages and, from npm, Azurite.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin

missing=()
command -v nginx >/dev/null || missing+=(nginx)
[ -e /usr/lib/nginx/modules/ngx_http_echo_module.so ] || missing+=(libnginx-mod-http-echo)
command -v sqlite3 >/dev/null || missing+=(sqlite3)
command -v curl >/dev/null || missing+=(curl)
command -v "${CC:-cc}" >/dev/null || missing+=(gcc libc6-dev)
command -v valgrind >/dev/null || missing+=(valgrind libc6-dbg) # it knows nothing of the C library without
perl -MDBD::SQLite -e 1 2>/dev/null || missing+=(libdbd-sqlite3-perl)
command -v "${MEDIASQL_TEST_CHROMIUM:-chromium}" >/dev/null || missing+=(chromium)
azurite=${MEDIASQL_TEST_AZURITE:-node_modules/.bin/azurite-blob}
[ -x "$azurite" ] || command -v npm >/dev/null || missing+=(nodejs npm)

if [ ${#missing[@]} -gt 0 ]; then
  as_root=(env)
  if [ "$(id -u)" != 0 ]; then as_root=(sudo env); fi
  if ! command -v apt-get >/dev/null || ! command -v "${as_root[0]}" >/dev/null; then
    echo "Please install these, then run this again: ${missing[*]}" >&2
    exit 1
  fi
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

[ -x "$azurite" ] || npm install --no-save --no-audit --no-fund azurite@3
