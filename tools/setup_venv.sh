#!/bin/sh
# Makes the virtual environment in the folder $1 ready for work, from whatever state it is in:
# not there, half made, of a Python that is gone, or of older requirements.
#   PYTHON=... chooses the interpreter; otherwise the newest known one that is installed is taken.
set -eu

VENV=$1
APT_TIMEOUT_S=900
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '%s\n' "$*" >&2; }

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

can_make_venvs() {
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1
}

find_python() {
    found=''
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
        is_new_enough "$candidate" || continue
        if can_make_venvs "$candidate"; then
            printf '%s\n' "$candidate"
            return 0
        fi
        found=${found:-$candidate}
    done
    printf '%s\n' "$found"
}

install_debian_venv() {
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    package="python$version-venv"
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        say "$1 lacks the modules venv and ensurepip, which come in a package of their own. Run this, then try again:"
        say ""
        say "    sudo apt-get install -y $package"
        say ""
        return 1
    fi
    say "$1 lacks the modules venv and ensurepip; installing the package $package ..."
    log=$(mktemp)
    if apt_get update >"$log" 2>&1 && apt_get install -y --no-install-recommends "$package" >>"$log" 2>&1; then
        rm -f "$log"
        return 0
    fi
    tail -n 30 "$log" >&2
    rm -f "$log"
    say "apt-get could not install $package; see above."
    return 1
}

# --foreground lets Ctrl-C reach apt-get.
apt_get() {
    DEBIAN_FRONTEND=noninteractive timeout --foreground "$APT_TIMEOUT_S" apt-get -qq \
        -o DPkg::Lock::Timeout=120 -o Acquire::Retries=2 "$@" </dev/null
}

is_sound() {
    [ -x "$VENV/bin/python" ] && is_new_enough "$VENV/bin/python" && "$VENV/bin/python" -m pip --version >/dev/null 2>&1
}

make_venv() {
    python=$(find_python)
    if [ -z "$python" ]; then
        say "Python 3.11 or newer is needed, and none of ${PYTHON:-python3.13, python3.12, python3.11, python3} is one."
        say "Install it with your system's package manager, or name it: make setup PYTHON=/path/to/python3"
        return 1
    fi
    can_make_venvs "$python" || install_debian_venv "$python"
    rm -rf "$VENV"
    "$python" -m venv "$VENV"
}

# -qq: silent but for errors; a machine's own pip settings may have much to warn of.
pip_install() {
    "$VENV/bin/python" -m pip install -qq "$@"
}

install_requirements() {
    # The file is complete, so pip need not look at dependencies; where it does, older ones (23.2) stumble over an
    # extra such as coverage[toml] as soon as a newer version than the pinned one is published.
    pip_install --require-hashes --no-deps --requirement requirements/dev.txt
    # hatchling and editables are among the requirements, so that nothing unpinned is downloaded here.
    pip_install --no-deps --no-build-isolation --editable .
    problems=$("$VENV/bin/python" -m pip check) || {
        say "$problems"
        return 1
    }
}

say "Setting up $VENV; the first time this takes about a minute ..."
# A stamp of another folder means that this one was moved or copied: its scripts point to the old place.
if ! is_sound || { ls "$VENV"/ready-* >/dev/null 2>&1 && [ ! -e "$2" ]; }; then
    make_venv
fi
rm -f "$VENV"/ready-*
install_requirements
: >"$2"
