#!/bin/sh
# Makes .venv complete, or says in one line why it cannot. `make` calls this before every target.
#
# usage: sh setup.sh [tools|all|pages]
#   tools  stop when the environment holds uv, install nothing else
#   all    with the optional packages, which the suite and the stored pages use
#   pages  with those of the site and of the tests in a browser, too
#
# PYTHON=...             the interpreter to build .venv with (else the first that fits of those below)
# UV_TORCH_BACKEND=cpu   is passed on to uv: the small builds of PyTorch, without CUDA
set -u
cd "$(dirname "$0")" || exit 1
target=${1:-}
venv=.venv
log=$venv/setup.log
stamp=$venv/complete

fail() {
    echo "setup: $*" >&2
    exit 1
}

fits() { # is this interpreter one that every package has a wheel for?
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1
}

# The stamp holds what the environment was made from: a changed file, a moved folder or an
# interrupted installation does not match, and the installation runs again.
wanted=$(pwd -P; cksum pyproject.toml requirements.txt) || fail "pyproject.toml or requirements.txt is missing"
whole="$wanted
with the optional packages"
pages="$wanted
with all packages"
found=$(cat $stamp 2>/dev/null)
if [ "$target" != tools ] && fits $venv/bin/python; then
    case $found in
    "$pages") exit 0 ;;
    "$whole") [ "$target" = pages ] || exit 0 ;;
    "$wanted") [ "$target" = pages ] || [ "$target" = all ] || exit 0 ;;
    esac
fi

for place in . $venv; do
    [ ! -e $place ] || [ -w $place ] || fail "cannot complete $venv: $(pwd -P) is not writable by you: ask its owner to run make once, or work in a copy of your own"
done

if ! { fits $venv/bin/python && $venv/bin/python -m pip --version >/dev/null 2>&1; }; then
    python= seen= novenv=
    set -- python3 python3.13 python3.12 python3.11
    [ -z "${PYTHON:-}" ] || set -- "$PYTHON" # one word, whatever spaces it holds
    for candidate in "$@"; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        if ! fits "$candidate"; then
            seen="$seen $candidate is $version,"
        elif ! "$candidate" -c 'import venv, ensurepip' >/dev/null 2>&1; then
            novenv=${novenv:-$version}
        else
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        [ -z "$novenv" ] || fail "Python $novenv cannot make environments: install its venv module (Debian, Ubuntu: apt install python$novenv-venv)"
        [ -z "$seen" ] || fail "Python 3.11, 3.12 or 3.13 is needed, but$seen choose one with PYTHON=/path/to/python3"
        fail "no Python found (looked for ${PYTHON:-python3}): install Python 3.11, 3.12 or 3.13, or choose one with PYTHON=/path/to/python3"
    fi
    echo "setup: making $venv with $python"
    "$python" -m venv --clear $venv || fail "could not make $venv with $python"
fi

rm -f $stamp
if ! $venv/bin/python -m uv --version >/dev/null 2>&1; then
    $venv/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 uv >$log 2>&1 ||
        fail "could not install the packages: is there a network? (uv did not arrive; details in $log)"
fi
[ "$target" != tools ] || exit 0

project=.
[ "$target" != all ] || { project=".[litert-torch,micro,speech]" wanted=$whole; }
[ "$target" != pages ] || { project=".[litert-torch,micro,speech,pages]" wanted=$pages; }
echo "setup: installing the packages into $venv (several GB; with UV_TORCH_BACKEND=cpu fewer)"
install() { # compiled once here, or every kernel that imports TensorFlow compiles it again
    $venv/bin/python -m uv pip install --compile-bytecode --python $venv/bin/python -e "$project" -c requirements.txt
}
if [ -t 2 ]; then # a person watches: show uv's progress
    install
else
    install 2>$log
fi || fail "could not install the packages: is there a network? (details above or in $log; run the command again to go on)"
printf '%s\n' "$wanted" >$stamp.part && mv $stamp.part $stamp
