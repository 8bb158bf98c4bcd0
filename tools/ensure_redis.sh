#!/bin/sh
# Makes sure that a Redis server is installed, for the private ones of tests and benchmarks.
#
# Exit code 0: it is. As root on a Debian-like system the script installs the package, without starting its
# service; elsewhere it prints the one command to run and exits with 1.
set -eu
. "$(dirname "$0")/ensure_package.sh"
. "$(dirname "$0")/without_services.sh"

[ "$(id -u)" -ne 0 ] || restore_policy
if has redis-server; then
    exit 0
fi
[ "$(id -u)" -ne 0 ] || ! has apt-get || forbid_services
ensure_package "Redis" "redis-server" "redis-server"
# We need the program only; left enabled, the service would start with the machine.
! has update-rc.d || update-rc.d redis-server disable >/dev/null 2>&1 || true
