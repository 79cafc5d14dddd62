# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash disable=SC2034
# Sourced by the other scripts here: shared paths, messages, and the creation of venvs.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${JAYWALK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/jaywalk}
BUILD=$ROOT/build
CONSTRAINTS=$ROOT/requirements/constraints.txt

# One venv per set of requirements, so that checkouts of different versions can share the cache.
VENV=$CACHE/venv-$({ sed -n '/^\[dependency-groups]/,/^\[project/p' "$ROOT/pyproject.toml"; cat "$ROOT"/requirements/*.txt; } |
    sha256sum | cut -c1-12)

export LC_ALL=C.UTF-8

log() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# python_between LOWEST HIGHEST: print the path of a Python (no pyenv shim) of a version in that range that
# can create venvs: Debian's first, then those on PATH, then pyenv's. Fails if there is none.
python_between() {
    local candidate
    for candidate in /usr/bin/python3 $(pythons_on_path) "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3; do
        [[ -x $candidate ]] || continue
        "$candidate" - "$1" "$2" 2>/dev/null <<'PYTHON' && { echo "$candidate"; return 0; }
import ensurepip, sys, venv
low, high = (tuple(map(int, text.split("."))) for text in sys.argv[1:])
sys.exit(not low <= sys.version_info[:2] <= high)
PYTHON
    done
    return 1
}

pythons_on_path() {
    type -ap python3 python3.{14,13,12,11} 2>/dev/null | grep -v /shims/ || true
}

# make_venv PYTHON DIRECTORY PIP-ARGUMENT...: create a venv with packages, unless a complete one exists.
make_venv() {
    local python=$1 directory=$2 log=$2.log
    shift 2
    [[ -e $directory/.complete ]] && "$directory/bin/python" -c '' 2>/dev/null && return
    mkdir -p "$(dirname "$directory")"
    exec 9>"$directory.lock"
    flock 9
    [[ -e $directory/.complete ]] && "$directory/bin/python" -c '' 2>/dev/null && return
    log "creating the Python environment $directory ($("$python" --version))"
    rm -rf -- "$directory"
    "$python" -m venv "$directory"
    # pip supports dependency groups from 25.1; Debian 12 has 23.0.
    "$directory/bin/python" -m pip install --no-input --disable-pip-version-check --quiet --require-hashes \
        --requirement "$ROOT/requirements/pip.txt" 2>"$log" ||
        { cat "$log" >&2; die "pip could not update itself in $directory; see the lines above, then run this again"; }
    if ! "$directory/bin/python" -m pip install --no-input --disable-pip-version-check "$@" 2>"$log" |
        sed -un 's/^Collecting \([^ ;]*\).*/    \1/p' >&2; then
        cat "$log" >&2
        die "pip could not install into $directory; see the lines above, then run this again"
    fi
    # pystun3 installs its tests as a top-level package, which would shadow ours.
    rm -rf -- "$directory"/lib/python3*/site-packages/tests
    touch "$directory/.complete"
    exec 9>&-
}
