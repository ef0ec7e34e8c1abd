#!/usr/bin/env bash
# Installs what is missing, builds the release binary and starts one broker on 127.0.0.1:9092.
#
# usage: scripts/run.sh [--build-only] [arguments for `millrace server`...]
#   e.g. scripts/run.sh --set log.level=debug
# Data:  $MILLRACE_DATA, or ${XDG_DATA_HOME:-~/.local/share}/millrace. Stop it with Ctrl-C.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

build_only=
if [ "${1:-}" = --build-only ]; then
  build_only=1
  shift
fi
scripts/install_packages build
[ -f build/release/build.ninja ] || cmake --preset release
cmake --build build/release --target millrace
[ -z "$build_only" ] || exit 0

data=${MILLRACE_DATA:-${XDG_DATA_HOME:-$HOME/.local/share}/millrace}
mkdir -p "$data"
echo "data in $data"
exec build/release/millrace server --config config/dev.properties --set "log.dirs=$data" "$@"
