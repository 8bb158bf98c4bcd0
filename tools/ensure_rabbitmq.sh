#!/bin/sh
# Makes sure that a RabbitMQ server is installed, for the private nodes of tests and the demo.
#
# Exit code 0: it is. As root on a Debian-like system the script installs the package, without
# starting its service; elsewhere it prints the one command to run and exits with 1.
set -eu
. "$(dirname "$0")/without_services.sh"

APT_TIMEOUT_S=900
END_TIMEOUT_S=20

say() { printf '%s\n' "$*" >&2; }

# The same places as in rabbitmq_machine.py.
find_server() {
    for folder in /usr/lib/rabbitmq/bin "${HOMEBREW_PREFIX:-/opt/homebrew}/opt/rabbitmq/sbin" \
        /usr/local/opt/rabbitmq/sbin /home/linuxbrew/.linuxbrew/opt/rabbitmq/sbin; do
        if [ -x "$folder/rabbitmq-server" ]; then
            return 0
        fi
    done
    PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v rabbitmq-server >/dev/null 2>&1
}

has() { command -v "$1" >/dev/null 2>&1; }

print_command() {
    sudo='sudo '
    [ "$(id -u)" -ne 0 ] || sudo=''
    if has brew; then
        command='brew install rabbitmq'
    elif has apt-get; then
        command="${sudo}apt-get install -y --no-install-recommends rabbitmq-server"
    elif has dnf; then
        command="${sudo}dnf install -y rabbitmq-server"
    elif has zypper; then
        command="${sudo}zypper --non-interactive install rabbitmq-server"
    elif has pacman; then
        command="${sudo}pacman -S --noconfirm rabbitmq"
    elif has apk; then
        command="${sudo}apk add rabbitmq-server"
    else
        command="(install the package rabbitmq-server with your system's package manager)"
    fi
    say "RabbitMQ is not installed on this machine. Run this, then try again:"
    say ""
    say "    $command"
    say ""
}

# Processes that only the package's own service can be: private nodes run as whoever runs the tests.
service_pids() {
    for folder in /proc/[0-9]*; do
        { read -r name <"$folder/comm"; } 2>/dev/null || continue
        case $name in
        beam* | epmd | rabbitmq*)
            owner=$(stat -c %U "$folder" 2>/dev/null) || continue
            case $owner in rabbitmq | epmd) printf '%s\n' "${folder#/proc/}" ;; esac
            ;;
        esac
    done
}

# The log is shown only when it tells of a failure. --foreground lets Ctrl-C reach apt-get.
apt_get() {
    log=$(mktemp)
    if DEBIAN_FRONTEND=noninteractive timeout --foreground "$APT_TIMEOUT_S" apt-get -qq -o DPkg::Lock::Timeout=120 \
        -o Acquire::Retries=2 "$@" >"$log" 2>&1 </dev/null; then
        rm -f "$log"
        return 0
    fi
    say "apt-get $* failed:"
    tail -n 30 "$log" >&2
    rm -f "$log"
    return 1
}

install_package() {
    for attempt in 1 2; do
        if apt_get update && apt_get install -y --no-install-recommends rabbitmq-server; then
            return 0
        fi
        if [ "$attempt" -eq 1 ]; then
            say "Trying once more in 5 seconds ..."
            sleep 5
        fi
    done
    return 1
}

end_new_service_processes() {
    waited=0
    while :; do
        new=$(service_pids | while read -r pid; do
            case " $1 " in *" $pid "*) ;; *) printf '%s ' "$pid" ;; esac
        done)
        [ -n "$new" ] || return 0
        signal=TERM
        [ "$waited" -lt $((END_TIMEOUT_S / 2)) ] || signal=KILL
        if [ "$waited" -ge "$END_TIMEOUT_S" ]; then
            say "The service of rabbitmq-server was started and does not end; end the processes $new by hand."
            return 1
        fi
        for pid in $new; do
            kill -s "$signal" "$pid" 2>/dev/null || true
        done
        sleep 1
        waited=$((waited + 1))
    done
}

install_on_debian() {
    say "RabbitMQ is not installed; installing the package rabbitmq-server (its service stays off) ..."
    before=$(service_pids | tr '\n' ' ')
    forbid_services
    install_package || {
        print_command
        return 1
    }
    restore_policy
    end_new_service_processes "$before"
    # We need the program only; left enabled, the service would start with the machine.
    if has update-rc.d; then
        update-rc.d rabbitmq-server disable >/dev/null 2>&1 || true
    fi
}

# An earlier run may have been cut short by a power cut.
[ "$(id -u)" -ne 0 ] || restore_policy
if find_server; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! has apt-get; then
    print_command
    exit 1
fi
install_on_debian
if ! find_server; then
    say "The package rabbitmq-server is installed, yet there is no rabbitmq-server; see 'dpkg -L rabbitmq-server'."
    exit 1
fi
