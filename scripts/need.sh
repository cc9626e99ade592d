#!/usr/bin/env bash
# Makes sure that one outside tool is here, and prints its path: need.sh python|node|chromium|redis
# As root on a machine with apt-get a missing tool is installed; anyone else is told in one line what to do.
set -euo pipefail

fail() {
    echo "trueup: $*" >&2
    exit 1
}

# install WHAT_FOR PACKAGE...
install() {
    local purpose=$1
    shift
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "$purpose is missing: install $* (on Debian: sudo apt-get install $*), then run make again."
    fi
    echo "trueup: installing $* with apt-get ($purpose is missing)" >&2
    local log
    log=$(mktemp)
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } \
        </dev/null >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        rm -f "$log"
        fail "apt-get could not install $*; its last lines stand above."
    fi
    rm -f "$log"
    hash -r
}

# The first of the named commands that runs at all; a version manager's empty shim does not.
first_working() {
    local candidate
    for candidate in "$@"; do
        if command -v "$candidate" >/dev/null && "$candidate" --version >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

need_python() {
    local found
    if ! found=$(find_python); then
        [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is no Python 3.11 or newer: name one that is, or leave PYTHON unset."
        install "Python 3.11 or newer" python3 python3-venv
        found=$(find_python) || fail "Python 3.11 or newer is needed, and the system's is older: install one, then run make PYTHON=/path/to/python3."
    fi
    if ! "$found" -c 'import venv, ensurepip' >/dev/null 2>&1; then
        install "the venv module of $found" "$("$found" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    echo "$found"
}

need_node() {
    local found version
    if ! { found=$(first_working node) && first_working npm >/dev/null; }; then
        install "Node 20.19 or newer with npm" nodejs npm
        found=$(first_working node) || fail "node does not run after installing it: check 'node --version'."
    fi
    version=$("$found" --version)
    "$found" -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
        fail "Node 20.19 or newer is needed, and $found is $version: install a newer Node, then run make again."
    echo "$found"
}

need_chromium() {
    if [ -n "${TRUEUP_CHROMIUM:-}" ]; then
        [ -x "$TRUEUP_CHROMIUM" ] || fail "TRUEUP_CHROMIUM=$TRUEUP_CHROMIUM is no executable: name a Chromium, or leave it unset."
        echo "$TRUEUP_CHROMIUM"
        return
    fi
    first_working chromium chromium-browser google-chrome && return
    install "Chromium, for the browser tests" chromium
    first_working chromium || fail "chromium does not run after installing it: check 'chromium --version'."
}

need_redis() {
    first_working redis-server && return
    install "Redis, for the tests of the Redis bus" redis-server
    first_working redis-server || fail "redis-server does not run after installing it: check 'redis-server --version'."
}

case "${1:-}" in
    python | node | chromium | redis) "need_$1" ;;
    *) fail "need.sh knows python, node, chromium and redis, not '${1:-}'." ;;
esac
