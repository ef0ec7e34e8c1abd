#!/usr/bin/env bash
# Proves docker/Dockerfile without a container engine or a registry: carries out its instructions in Debian roots made
# by mmdebstrap, starts the image's command as its user, waits for its health check and stops it.
#
# usage: docker/prove.sh [--binary FILE]
#   --binary   take this built millrace for the build stage's result instead of compiling (Debian 12 on both sides)
# Needs root and the Debian package mmdebstrap. A compile inside takes as long as any first build.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ "$(id -u)" -eq 0 ] || { echo "prove.sh: needs root" >&2; exit 1; }
command -v mmdebstrap > /dev/null || { echo "prove.sh: install the Debian package mmdebstrap" >&2; exit 1; }
exec python3 "$here/carry_out.py" "$@"
