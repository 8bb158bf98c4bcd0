#!/bin/sh
# Writes requirements/runtime.txt, dev.txt and build.txt: every version pinned, every file hashed,
# for Python 3.11 and newer on every platform. UPGRADE=1 takes the newest versions.
#   UV=... names the `uv` to use; otherwise the one of the virtual environment $1 or of the PATH is.
set -eu

VENV=$1

find_uv() {
    for candidate in ${UV:-"$VENV/bin/uv" uv}; do
        if command -v "$candidate" >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    printf '%s\n' "make lock needs the program uv; install it with: $VENV/bin/python -m pip install uv" >&2
    return 1
}

# No index may be named in the result: whoever installs has their own.
compile() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links ${UPGRADE:+--upgrade} "$@"
}

uv=$(find_uv)
compile pyproject.toml --extra worker --output-file requirements/runtime.txt
compile pyproject.toml --extra worker --group dev --constraint requirements/runtime.txt --output-file requirements/dev.txt
compile --group build --constraint requirements/dev.txt --output-file requirements/build.txt
if grep -nE '[a-z+]+://|^-' requirements/*.txt; then
    printf '%s\n' "requirements/ must name neither an index nor an address; see the lines above" >&2
    exit 1
fi
