#!/bin/sh
# Makes sure that amqp-publish is installed, which a test publishes with as a foreign client.
#
# Exit code 0: it is. As root on a Debian-like system the script installs the package; elsewhere it
# prints the one command to run and exits with 1.
set -eu
. "$(dirname "$0")/ensure_package.sh"
ensure_package "amqp-publish" "amqp-tools" "amqp-publish"
