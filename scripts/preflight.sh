#!/bin/sh
# What `make demo` and `make test` need, checked before anything is downloaded or built.
# Prints one install command for each thing that is missing; exit 1 if any is.
set -u
missing=0
need() { # what, why, command
    printf 'missing: %s (%s)\n    install: %s\n' "$1" "$2" "$3" >&2
    missing=1
}
if command -v apt-get >/dev/null 2>&1; then install="sudo apt-get install -y"
elif command -v dnf >/dev/null 2>&1; then install="sudo dnf install -y"
elif command -v brew >/dev/null 2>&1; then install="brew install"
else install="install with your package manager:"; fi

python="${PYTHON:-python3}"
if ! command -v "$python" >/dev/null 2>&1; then
    need "Python 3.11 or later" "\`$python\` is not on PATH" "$install python3 python3-venv"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    need "Python 3.11 or later" "\`$python\` is $("$python" -V 2>&1); set PYTHON=… for another" "$install python3.11 python3.11-venv"
elif ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    need "Python's venv module" "\`$python -m venv\` does not work" "$install python3-venv"
fi
if ! command -v cargo >/dev/null 2>&1; then
    need "Rust (cargo) 1.92 or later" "cargo is not on PATH" "curl --proto '=https' -sSf https://sh.rustup.rs | sh"
else
    minor=$(cargo --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')
    if [ -z "$minor" ]; then
        need "a Rust toolchain" "\`cargo --version\` fails; where HOME is new, set RUSTUP_HOME to the folder that has it" "rustup default stable"
    elif [ "$minor" -lt 92 ]; then
        need "Rust 1.92 or later" "cargo is 1.$minor" "rustup update stable"
    fi
fi
if ! command -v cc >/dev/null 2>&1; then
    need "a C compiler" "cc is not on PATH" "$install gcc libc6-dev"
fi
free_mb=$(df -Pm . | awk 'NR==2 {print $4}')
if [ "${free_mb:-0}" -lt 4096 ]; then
    need "4 GiB of free disk here" "there are $free_mb MiB" "free some space, or clone to another disk"
fi
# The network is needed only where something is still to be downloaded.
if [ "$missing" -eq 0 ] && [ "${1:-}" = "--network" ]; then
    if ! "$python" -m pip --disable-pip-version-check --timeout 20 index versions maturin >/dev/null 2>&1; then
        need "a Python package index" "pip cannot reach one" "set PIP_INDEX_URL to a mirror that you can reach, or mend the network"
    fi
fi
[ "$missing" -eq 0 ] && [ "${VERBOSE:-}" ] && echo "python, cargo, C compiler, disk: all there"
exit "$missing"
