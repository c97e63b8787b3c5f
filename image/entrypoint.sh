#!/bin/sh
# The image's commands: probes is python -m lib.probes; run, why, verify and the others are python -m lib.
if [ "${1:-}" = probes ]; then
  shift
  exec python3 -m lib.probes "$@"
fi
exec python3 -m lib "$@"
