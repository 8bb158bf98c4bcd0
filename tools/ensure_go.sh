#!/bin/sh
# Makes sure that Go and RabbitMQ's Go client are installed, which a test publishes with as a foreign client.
#
# Exit code 0: they are. As root on a Debian-like system the script installs the packages; elsewhere it
# prints the one command to run and exits with 1.
set -eu
. "$(dirname "$0")/ensure_package.sh"
ensure_package "Go with amqp091-go" "golang-go golang-github-rabbitmq-amqp091-go-dev" "go" \
    "/usr/share/gocode/src/github.com/rabbitmq/amqp091-go/connection.go"
