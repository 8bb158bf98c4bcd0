#!/bin/sh
# Makes sure that curl and jq are installed, with which a test publishes and reads over HTTP.
#
# Exit code 0: they are. As root on a Debian-like system the script installs the packages; elsewhere it
# prints the one command to run and exits with 1.
set -eu
. "$(dirname "$0")/ensure_package.sh"
ensure_package "curl with jq" "curl jq" "curl jq"
