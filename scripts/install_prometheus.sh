#!/bin/sh
# Installs what `make observe` and its tests run: prometheus (with promtool) and its Pushgateway.
# Nothing is done where they are there. Needs root and apt; elsewhere it says what to install.
set -eu

missing=""
command -v prometheus >/dev/null && command -v promtool >/dev/null || missing="prometheus"
command -v prometheus-pushgateway >/dev/null || missing="$missing prometheus-pushgateway"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "missing:$missing. Install it (Debian and Ubuntu: sudo apt-get install$missing)," >&2
  echo "or put the programs prometheus, promtool and prometheus-pushgateway on the PATH." >&2
  exit 2
fi
echo "Installing $missing (once) ..."
export DEBIAN_FRONTEND=noninteractive
export RUNLEVEL=1 # The packages start services of their own; a run starts what it needs.
apt-get update -qq
# shellcheck disable=SC2086 # One word for each package.
apt-get install -y -qq --no-install-recommends $missing >/dev/null
