# Sourced by the ensure_*.sh of single programs: installs packages as root on a Debian-like system,
# elsewhere prints the one command to run and fails.
#
#   ensure_package "what it is called" "package …" "program …" ["file …"]

APT_TIMEOUT_S=600

say() { printf '%s\n' "$*" >&2; }

has() { command -v "$1" >/dev/null 2>&1; }

# Programs on the PATH, and libraries' files.
has_all() {
    for program in $1; do
        has "$program" || return 1
    done
    for file in $2; do
        [ -e "$file" ] || return 1
    done
}

print_command() {
    sudo='sudo '
    [ "$(id -u)" -ne 0 ] || sudo=''
    if has apt-get; then
        command="${sudo}apt-get install -y --no-install-recommends $2"
    else
        command="(install $2 with your system's package manager)"
    fi
    say "$1 is not installed on this machine. Run this, then try again:"
    say ""
    say "    $command"
    say ""
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

# A fresh machine has no lists of packages, an old one has stale ones: either is mended by an update.
install_packages() {
    apt_get install -y --no-install-recommends "$@" 2>/dev/null ||
        { apt_get update && apt_get install -y --no-install-recommends "$@"; }
}

ensure_package() {
    ! has_all "$3" "${4:-}" || return 0
    if [ "$(id -u)" -ne 0 ] || ! has apt-get; then
        print_command "$1" "$2"
        return 1
    fi
    say "$1 is not installed; installing $2 ..."
    # Several packages are several words.
    # shellcheck disable=SC2086
    install_packages $2 || {
        print_command "$1" "$2"
        return 1
    }
    has_all "$3" "${4:-}" || {
        say "$2 is installed, yet one of these is missing: $3 ${4:-}"
        return 1
    }
}
