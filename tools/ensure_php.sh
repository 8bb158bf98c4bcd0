#!/bin/sh
# Makes sure that PHP and php-amqplib are installed, which a test publishes with as a foreign client.
#
# Exit code 0: they are. As root on a Debian-like system the script installs the packages; elsewhere it
# prints the one command to run and exits with 1.
set -eu
. "$(dirname "$0")/ensure_package.sh"
ensure_package "PHP with php-amqplib" "php-cli php-amqplib" "php" "/usr/share/php/PhpAmqpLib/autoload.php"
