#!/bin/sh
# Makes sure that a JDK and RabbitMQ's Java client are installed, which a test publishes with as a foreign client.
#
# Exit code 0: they are. As root on a Debian-like system the script installs the packages; elsewhere it
# prints the one command to run and exits with 1.
set -eu
. "$(dirname "$0")/ensure_package.sh"
ensure_package "A JDK with RabbitMQ's Java client and Gson" \
    "default-jdk-headless librabbitmq-client-java libslf4j-java libgoogle-gson-java" "java javac" \
    "/usr/share/java/amqp-client.jar /usr/share/java/slf4j-api.jar /usr/share/java/gson.jar"
